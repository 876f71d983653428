"""An audit of what code did with Loops: which results it read, what it trained on, what it left."""

from __future__ import annotations

from loops_mock.watching.finding import Finding, Mistake
from loops_mock.watching.places import Place
from loops_mock.watching.watch import Watch

__all__ = ["Finding", "Mistake", "Place", "Watch"]
