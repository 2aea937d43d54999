"""Results and studies as one page that stands alone: no script, font or picture is fetched from anywhere."""
