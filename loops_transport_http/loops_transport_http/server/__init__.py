"""The server side: the protocol as an ASGI application over a worker."""
