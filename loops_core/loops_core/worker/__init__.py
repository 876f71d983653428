"""The worker: a log for every run, the thread that applies it, and the desk that answers calls."""
