"""The clients: what a user of Loops holds, over any transport.

Downward only: `service` > `training`, `sampling` > what they are made of > `drivers` > `calls`,
`polling`.
"""
