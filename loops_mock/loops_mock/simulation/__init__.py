"""A world under one seed: client, transport, worker and clock on virtual time, and its faults."""
