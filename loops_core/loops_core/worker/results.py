"""Waiting for results: from threads and from event loops, without a thread a waiter."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, final

from loops_core.clock import Clock
from loops_core.errors import (
    LoopsError,
    RemoteOpError,
    ServerShutdownError,
    UnknownRequestError,
    error_from_body,
    error_to_body,
)
from loops_core.types.base import WireModel
from loops_core.types.operation import OPERATIONS, ErrorBody, OperationKind, OperationStatus
from loops_core.worker.entries import Outcome, read_packed
from loops_core.worker.log import OperationLog
from loops_core.worker.waits import hear, settled

_MAX_MESSAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class News:
    """How an entry ended; `value` is its result itself, for the first of those who wait for it."""

    outcome: Outcome
    value: WireModel | None = None


Notify = Callable[[News | None], None]
"""Called once, from any thread: with the news, or with None when the run is closing."""


@final
class _Collector:
    """Gathers the endings of many operations for one waiter; heard of from any thread."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._news: dict[str, News | None] = {}

    def notify_for(self, operation_id: str) -> Notify:
        """Return what hears of one operation's end."""

        def notify(news: News | None) -> None:
            with self._lock:
                self._news[operation_id] = news
            self._wake()

        return notify

    def take(self, shutdown: Callable[[str], LoopsError]) -> dict[str, News]:
        """Return what was heard; raises what `shutdown` makes where nothing but a closing was."""
        with self._lock:
            heard = dict(self._news)
        ended = {key: news for key, news in heard.items() if news is not None}
        if heard and not ended:
            raise shutdown(next(iter(heard)))
        return ended


@final
class Results:
    """The outcomes of a run's operations, to be waited for.

    A waiter is a callback under its operation's id; an ending entry calls those under its own id
    and no others. The log is asked after the callback is in place, so that no ending falls between.
    Reading does not consume: a result reads the same until it expires.
    """

    def __init__(self, log: OperationLog, *, clock: Clock, results_kept_s: float) -> None:
        """Read from `log`; results expire `results_kept_s` after their entry has ended."""
        self._log = log
        self._clock = clock
        self._results_kept_s = results_kept_s
        self._lock = threading.Lock()
        self._waiters: dict[str, dict[Notify, None]] = {}  # in order of arrival
        self._closed_by: str | None = None

    def wait(self, operation_id: str, hold_s: float) -> OperationStatus:
        """Return the operation's result or error, or `pending` after at most `hold_s` seconds.

        Raises:
            UnknownRequestError: there is no such operation, or its result has expired.
            ServerShutdownError: the run is closing.
        """
        news: SimpleQueue[News | None] = SimpleQueue()
        notify = news.put  # one object: it is found again
        self._add(operation_id, notify)
        try:
            found = self._log.peek(operation_id) or self._log.find(operation_id).result()
            status = self._to_status(operation_id, found)
            if status.status != "pending" or hold_s <= 0:
                return status
            try:
                heard = news.get(timeout=hold_s)
            except Empty:
                return status
            return self._to_news(operation_id, heard)
        finally:
            self._remove(operation_id, notify)

    async def wait_async(self, operation_id: str, hold_s: float) -> OperationStatus:
        """Do what `wait` does without blocking the event loop; may be cancelled."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[News | None] = loop.create_future()

        def settle(heard: News | None) -> None:
            if not news.done():
                news.set_result(heard)

        def notify(heard: News | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle, heard)

        self._add(operation_id, notify)
        try:
            found = self._log.peek(operation_id) or await settled(self._log.find(operation_id))
            status = self._to_status(operation_id, found)
            if status.status != "pending" or hold_s <= 0:
                return status
            has_news = await hear(news, hold_s, self._clock)
            return self._to_news(operation_id, news.result()) if has_news else status
        finally:
            self._remove(operation_id, notify)

    def wait_any(self, operation_ids: Sequence[str], hold_s: float) -> dict[str, OperationStatus]:
        """Return those of the operations that have ended, by id; waits until one has.

        An operation that is not known, or whose result has expired, counts as ended: its status
        says `UnknownRequestError`. Nothing has ended at the end of the hold: an empty dict.

        Raises:
            ServerShutdownError: the run is closing.
        """
        if ended := self._known_ended(operation_ids):
            return ended
        news = threading.Event()
        collector = _Collector(news.set)
        with self._collecting(operation_ids, collector):
            found = {key: self._log.peek(key) for key in operation_ids}
            for key, find in self._finds(found).items():
                found[key] = find.result()
            if not (ended := self._ended(found)) and hold_s > 0:
                news.wait(hold_s)
            return ended or self._heard(collector.take(self._shutdown))

    async def wait_any_async(
        self, operation_ids: Sequence[str], hold_s: float
    ) -> dict[str, OperationStatus]:
        """Do what `wait_any` does without blocking the event loop; may be cancelled."""
        if ended := self._known_ended(operation_ids):
            return ended
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not news.done():
                news.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        collector = _Collector(wake)
        with self._collecting(operation_ids, collector):
            found = {key: self._log.peek(key) for key in operation_ids}
            for key, find in self._finds(found).items():
                found[key] = await settled(find)
            if not (ended := self._ended(found)) and hold_s > 0:
                await hear(news, hold_s, self._clock)
            return ended or self._heard(collector.take(self._shutdown))

    def settle(self, outcome: Outcome, value: WireModel | None = None) -> None:
        """Wake those who wait for the entry; it is in the log by now.

        Args:
            outcome: how it ended, its result packed.
            value: the result itself, where it is nobody else's: the first who waits gets it.
        """
        with self._lock:
            concerned = self._waiters.pop(outcome.operation_id, ())
        for notify in concerned:
            notify(News(outcome, value))
            value = None

    def shut_down(self, reason: str, *, but: str | None = None) -> None:
        """Wake everybody with `ServerShutdownError`, except who waits for the operation `but`."""
        with self._lock:
            self._closed_by = self._closed_by or reason
            left = {key: who for key, who in self._waiters.items() if key == but}
            concerned = [who for key, who in self._waiters.items() if key != but]
            self._waiters = left
        for notify in (notify for who in concerned for notify in who):
            notify(None)

    def _finds(self, found: Mapping[str, Outcome | None]) -> dict[str, Future[Outcome | None]]:
        """Ask the log, all at once, for those that it did not know without a wait."""
        return {key: self._log.find(key) for key, outcome in found.items() if outcome is None}

    @contextlib.contextmanager
    def _collecting(self, operation_ids: Sequence[str], collector: _Collector) -> Generator[None]:
        """Let the collector hear of all these operations while the block runs."""
        heard = {key: collector.notify_for(key) for key in operation_ids}
        self._add_all(heard)
        try:
            yield
        finally:
            self._remove_all(heard)

    def _known_ended(self, operation_ids: Sequence[str]) -> dict[str, OperationStatus]:
        """Return the statuses of those that have ended, if all are known without a wait."""
        with self._lock:
            self._check_open(operation_ids)
        peeked = {key: self._log.peek(key) for key in operation_ids}
        return {} if None in peeked.values() else self._ended(peeked)

    def _ended(self, found: Mapping[str, Outcome | None]) -> dict[str, OperationStatus]:
        """Return the statuses of those that have ended, or that nobody knows."""
        statuses: dict[str, OperationStatus] = {}
        for operation_id, outcome in found.items():
            if outcome is not None and not outcome.state.is_final:
                continue
            try:
                status = self._to_status(operation_id, outcome)
            except UnknownRequestError as error:
                status = OperationStatus(
                    status="error", error=error.message, error_body=error_to_body(error)
                )
            statuses[operation_id] = status
        return statuses

    def _add(self, operation_id: str, notify: Notify) -> None:
        self._add_all({operation_id: notify})

    def _add_all(self, heard: Mapping[str, Notify]) -> None:
        with self._lock:
            self._check_open(heard)
            for operation_id, notify in heard.items():
                self._waiters.setdefault(operation_id, {})[notify] = None

    def _remove(self, operation_id: str, notify: Notify) -> None:
        self._remove_all({operation_id: notify})

    def _remove_all(self, heard: Mapping[str, Notify]) -> None:
        with self._lock:
            for operation_id, notify in heard.items():
                waiters = self._waiters.get(operation_id)
                if waiters is not None:
                    waiters.pop(notify, None)
                    if not waiters:
                        del self._waiters[operation_id]

    def _check_open(self, operation_ids: Iterable[str]) -> None:
        if self._closed_by is not None:
            raise self._shutdown(next(iter(operation_ids), ""))

    def _shutdown(self, operation_id: str) -> ServerShutdownError:
        return ServerShutdownError(
            f"{self._closed_by}: an operation that waits in a log on disk runs when the run is "
            "opened again",
            operation_id=operation_id,
        )

    def _heard(self, news: Mapping[str, News]) -> dict[str, OperationStatus]:
        return {
            operation_id: self._to_news(operation_id, heard) for operation_id, heard in news.items()
        }

    def _to_news(self, operation_id: str, news: News | None) -> OperationStatus:
        if news is None:
            raise self._shutdown(operation_id)
        if news.value is not None:
            return _to_done(OperationKind(news.outcome.kind), news.value)
        return self._to_status(operation_id, news.outcome)

    def _to_status(self, operation_id: str, outcome: Outcome | None) -> OperationStatus:
        if outcome is None:
            raise UnknownRequestError(
                f"operation {operation_id!r} is not known to this run", operation_id=operation_id
            )
        if not outcome.state.is_final:
            return OperationStatus(status="pending")
        ended_s = outcome.finished_s or 0.0
        has_expired = self._clock.now() >= ended_s + self._results_kept_s
        if has_expired or (outcome.result is None and outcome.error is None):
            raise UnknownRequestError(
                f"the result of operation {operation_id!r} has expired: results are kept for "
                f"{self._results_kept_s:g} s after the operation has ended",
                operation_id=operation_id,
            )
        return _to_ended(outcome)


def make_error_body(error: Exception, *, operation_id: str, kind: str) -> ErrorBody:
    """Return what is stored of the exception that an entry failed with.

    An error of ours keeps its class and fields; of a foreign one the class's name and the message
    are kept, never the traceback, which may show values that are nobody else's business.
    """
    if not isinstance(error, LoopsError):
        name = type(error).__name__
        error = RemoteOpError(f"{name}: {error}"[:_MAX_MESSAGE], error_class=name)
    return error_to_body(
        error.for_operation(operation_id=operation_id, operation=kind, run_id=None)
    )


def _to_done(kind: OperationKind, result: WireModel) -> OperationStatus:
    status = OperationStatus(status="done", operation=kind)
    status.result = result  # it is valid: it is not looked at a second time
    return status


def _to_ended(outcome: Outcome) -> OperationStatus:
    kind = OperationKind(outcome.kind)
    if outcome.result is not None:
        what = f"the result of {outcome.operation_id}"
        return _to_done(kind, read_packed(what, outcome.result, OPERATIONS[kind].result_type))
    assert outcome.error is not None
    error = error_from_body(outcome.error)
    error_class = error.error_class if isinstance(error, RemoteOpError) else None
    text = error.message if error.hint is None else f"{error.message} ({error.hint})"
    return OperationStatus(
        status="error",
        operation=kind,
        error=text,
        error_class=error_class or outcome.error.code,
        error_body=outcome.error,
    )
