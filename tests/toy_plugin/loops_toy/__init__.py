"""A small plugin for Loops that lives outside of it: all that a plugin can bring."""
