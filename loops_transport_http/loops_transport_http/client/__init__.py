"""The client side: calls of the protocol over httpx."""
