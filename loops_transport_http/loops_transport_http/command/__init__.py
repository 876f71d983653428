"""Commands that this distribution adds to `loops`."""
