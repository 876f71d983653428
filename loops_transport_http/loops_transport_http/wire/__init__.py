"""What goes over the wire: names, bodies, errors; the same code on both sides of it."""
