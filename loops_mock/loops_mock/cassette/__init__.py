"""Cassettes: a run against any service in one file, and the run again without the service.

`record(path)` and `replay(path)` are context managers; `cassette:PATH` is a base URL.
"""

from __future__ import annotations

from loops_mock.cassette.active import record, replay

__all__ = ["record", "replay"]
