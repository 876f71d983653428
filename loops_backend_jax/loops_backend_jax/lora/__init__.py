"""Low-rank adapters: what they change, how they start, what they add."""
