"""From the name of a base model to a local directory that holds it.

`plugin` implements the hook; each other module knows one kind of name: `builtin` the small model
that needs no network, `smollm2` a real one from the package index, `local` directories, `hub` the
model hub.
"""
