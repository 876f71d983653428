"""Every public type, one subject a file."""
