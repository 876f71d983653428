"""Watch: an audit of what the code under test did with Loops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self, final

from loops_core.errors import UsageError
from loops_mock.watching import active
from loops_mock.watching.alignment import shifted_data
from loops_mock.watching.batches import batches_twice
from loops_mock.watching.events import Event
from loops_mock.watching.finding import Finding, allowed
from loops_mock.watching.journal import Journal
from loops_mock.watching.lifetimes import (
    clients_not_closed,
    futures_not_read,
    gradients_not_applied,
)
from loops_mock.watching.policies import stale_policies
from loops_mock.watching.program import Program

if TYPE_CHECKING:
    from types import TracebackType

_MOST_SHOWN = 10


@final
class Watch:
    """Sees every client that is opened while it is open, whatever the URL, and judges its calls.

    It changes nothing of what the code does. Clients that were open before are not seen; clients
    opened within are seen to their end.

    >>> with Watch() as watch:
    ...     pass  # the code under test opens its ServiceClient here
    >>> watch.findings()
    []
    """

    def __init__(self) -> None:
        """Make a watch that sees nothing yet."""
        self._journal = Journal()

    def __enter__(self) -> Self:
        """Begin to see what is opened."""
        active.open_journal(self._journal)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop seeing what is opened; what was seen stays."""
        active.close_journal(self._journal)

    def lending(self) -> AbstractContextManager[None]:
        """Return a block; the code under test need not close the clients that are opened in it."""
        return active.lending()

    def events(self) -> Sequence[Event]:
        """Return everything seen so far, in the order in which the program asked for it."""
        return self._journal.events()

    def last_calls(self, most: int = 20) -> list[str]:
        """Return the last things seen as lines of text, oldest first.

        Args:
            most: how many at most.
        """
        events = self.events()
        lines = [f"... {len(events) - most} before"] if len(events) > most else []
        return lines + [f"{event}  ({event.where})" for event in events[-most:]]

    def findings(self, *, allow: Sequence[str] = (), max_lag: int = 0) -> list[Finding]:
        """Return the mistakes made so far, in order of their calls.

        All kinds but `batch-twice`, which is a mistake only where it was not meant: ask for it with
        `assert_no_batch_twice`.

        Args:
            allow: kinds to leave out, such as `future-not-read`, or `future-not-read:optim_step`
                for one operation.
            max_lag: as in `assert_on_policy`.

        Raises:
            UsageError: an entry of `allow` is not known, or `max_lag` is negative.
        """
        _check_least("max_lag", max_lag, 0)
        program = self._program()
        found = [
            *futures_not_read(program),
            *gradients_not_applied(program),
            *clients_not_closed(program),
            *stale_policies(program, max_lag=max_lag),
            *shifted_data(program),
        ]
        return allowed(found, allow)

    def assert_clean(self, *, allow: Sequence[str] = (), max_lag: int = 0) -> None:
        """Raise `AssertionError` with every finding; arguments as in `findings`."""
        __tracebackhide__ = True
        _require_none(self.findings(allow=allow, max_lag=max_lag))

    def assert_all_futures_read(self, *, allow: Sequence[str] = ()) -> None:
        """Raise `AssertionError` if the result of an operation was never read.

        Args:
            allow: operations whose results may stay unread, such as `optim_step`.
        """
        __tracebackhide__ = True
        entries = [f"future-not-read:{operation}" for operation in _listed(allow)]
        _require_none(allowed(futures_not_read(self._program()), entries))

    def assert_gradients_applied(self) -> None:
        """Raise `AssertionError` if gradients reached no optimizer step.

        They were not followed by an `optim_step`, or a load threw them away.
        """
        __tracebackhide__ = True
        _require_none(gradients_not_applied(self._program()))

    def assert_clients_closed(self, *, trainers: bool = False) -> None:
        """Raise `AssertionError` if a client that the code opened is still open.

        Args:
            trainers: also ask for each training client of a service that is still open; else the
                service's own closing is taken to be enough.
        """
        __tracebackhide__ = True
        _require_none(clients_not_closed(self._program(), trainers=trainers))

    def assert_on_policy(self, *, max_lag: int = 0) -> None:
        """Raise `AssertionError` if samples came from a policy too far behind.

        Args:
            max_lag: how many optimizer steps the trainer may be ahead of the weights that draw a
                sample, and how many newer policies may be published before it is trained on.

        Raises:
            UsageError: `max_lag` is negative.
        """
        __tracebackhide__ = True
        _check_least("max_lag", max_lag, 0)
        _require_none(stale_policies(self._program(), max_lag=max_lag))

    def assert_data_aligned(self) -> None:
        """Raise `AssertionError` if a pass over samples does not fit what was sampled.

        Each position's target is the token that was drawn after it, with the log-probability that
        the sampler told and the advantage of that token: off by one, a loss still falls somewhere.
        """
        __tracebackhide__ = True
        _require_none(shifted_data(self._program()))

    def assert_no_batch_twice(self, *, epochs: int = 1, data: bool = False) -> None:
        """Raise `AssertionError` if a batch was trained on again that should not have been.

        Twice between two optimizer steps is always a mistake; after a load the past does not count.

        Args:
            epochs: how often one batch may be trained on, with optimizer steps between.
            data: judge each datum by itself, whatever batch it comes in.

        Raises:
            UsageError: `epochs` is below 1.
        """
        __tracebackhide__ = True
        _check_least("epochs", epochs, 1)
        _require_none(batches_twice(self._program(), epochs=epochs, data=data))

    def _program(self) -> Program:
        return Program.of(self.events())


def _require_none(findings: Sequence[Finding]) -> None:
    __tracebackhide__ = True
    if not findings:
        return
    lines = [f"  {finding}" for finding in sorted(findings, key=lambda each: each.position)]
    more = [f"  ... and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    raise AssertionError("\n".join([f"{count} in the use of Loops:", *lines[:_MOST_SHOWN], *more]))


def _listed(entries: Sequence[str]) -> Sequence[str]:
    return [entries] if isinstance(entries, str) else entries


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}; expected {least} or more", field=name)
