"""Training: datums into batches, the state of a trainer, its two steps."""
