"""Observers that ship with the core."""
