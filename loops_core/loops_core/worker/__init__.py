"""The worker: a log of operations for each run, and the machine that it drives.

`service` answers every call of the protocol; the rest of the room is what it stands on. Nothing
here knows the client or a transport.
"""
