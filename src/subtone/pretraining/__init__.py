"""Pre-training of upstreams on speech without emotion labels: masking strategies, objectives, frames, trainer."""
