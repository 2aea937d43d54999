"""End-to-end fine-tuning: the upstream learns along with the head."""
