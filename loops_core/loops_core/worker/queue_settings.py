"""The bounds and times of a run's operation queue."""

from __future__ import annotations

from dataclasses import dataclass

from loops_core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """How much a run's queue holds, and for how long.

    Attributes:
        max_queued: most entries that wait to run.
        max_queued_bytes: most bytes of bodies that wait to run; a larger single body is refused.
        submit_wait_s: how long a submit waits for room before it is refused.
        retry_after_s: what a refused submit is told to wait before the next attempt.
        results_kept_s: how long a result can be read after the entry has ended.
        keys_kept_s: how long a repeated idempotency key is recognised after the entry has ended;
            longer than any client goes on retrying.
        snapshot_entries: take a snapshot after this many entries that changed the state.
        snapshot_bytes: ... or after this many bytes of their bodies and results.
        max_attempts: an entry during which the process died this often is ended as failed, so that
            one entry that kills the worker cannot do so for ever.
        close_wait_s: how long `close` waits for the running entry.
    """

    max_queued: int = 4096
    max_queued_bytes: int = 512 * 1024 * 1024
    submit_wait_s: float = 20.0
    retry_after_s: float = 2.0
    results_kept_s: float = 3600.0
    keys_kept_s: float = 24 * 3600.0
    snapshot_entries: int = 64
    snapshot_bytes: int = 256 * 1024 * 1024
    max_attempts: int = 3
    close_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse settings that would break a promise of the queue.

        Raises:
            UsageError: a bound below 1, a negative time, or keys forgotten before their results.
        """
        bounds = ("max_queued", "max_queued_bytes", "snapshot_entries", "snapshot_bytes")
        for name in (*bounds, "max_attempts"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: expected 1 or more", field=name)
        waits = ("submit_wait_s", "retry_after_s", "results_kept_s", "close_wait_s")
        for name in waits:
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}: expected 0 or more", field=name)
        if self.keys_kept_s < self.results_kept_s:
            raise UsageError(
                f"keys_kept_s is {self.keys_kept_s}: expected at least results_kept_s "
                f"({self.results_kept_s}), or a repeated submit would run again while its first "
                "result can still be read",
                field="keys_kept_s",
            )
