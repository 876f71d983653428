"""Which journals are open: the hooks of `loops_mock.plugin` write into them."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from loops_core.hooks import RunEvent
from loops_core.protocols import Transport
from loops_mock.watching.events import TrainerClosed, TrainerOpened
from loops_mock.watching.journal import Journal
from loops_mock.watching.transport import WatchedTransport

_lock: Final = threading.Lock()
_open: Final[list[Journal]] = []
_is_lending: Final = ContextVar("loops_lending", default=False)


def open_journal(journal: Journal) -> None:
    """Have everything that is opened from now on written into the journal, on any thread."""
    with _lock:
        _open.append(journal)


def close_journal(journal: Journal) -> None:
    """Write nothing of what is opened from now on; what is open goes on being written down."""
    with _lock:
        if journal in _open:
            _open.remove(journal)


@contextmanager
def lending() -> Generator[None]:
    """Have what this block opens count as lent to the code under test, which need not close it."""
    token = _is_lending.set(True)
    try:
        yield
    finally:
        _is_lending.reset(token)


def watched(transport: Transport, url: str) -> Transport:
    """Return the transport, inside one that writes for every open journal."""
    for journal in _journals():
        transport = WatchedTransport(transport, journal, url=url, is_lent=_is_lending.get())
    return transport


def run_opened(event: RunEvent) -> None:
    """Write that a training client was opened."""
    for journal in _journals():
        found = journal.opened_by(event.run_id)
        if found is not None:
            service, place = found
            opened = TrainerOpened(
                number=journal.next_number(),
                service=service,
                place=place,
                client_id=event.client_id,
                run_id=event.run_id,
                is_lent=_is_lending.get(),
            )
            journal.write(opened)


def run_closed(event: RunEvent) -> None:
    """Write that a training client was closed."""
    for journal in _journals():
        found = journal.opened_by(event.run_id)
        if found is not None:
            closed = TrainerClosed(
                number=journal.next_number(), service=found[0], client_id=event.client_id
            )
            journal.write(closed)


def _journals() -> tuple[Journal, ...]:
    with _lock:
        return tuple(_open)
