"""The tables of the papers, each in its own shape, with published figures beside ours and what differs between them."""
