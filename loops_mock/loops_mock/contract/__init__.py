"""The contract of a Loops service as rules that run: against a URL, or in process."""
