"""What a proxy does to requests and responses, as values."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What happens to a message in one direction; by default it passes as it is.

    Attributes:
        stop_at: how many of its bytes pass before something happens; None = all.
        then: what happens: both connections are reset, or closed as if all had been said, or the
            rest is held back until the proxy is told to release it.
        pause_s: bytes pass one by one with this pause between them.
    """

    stop_at: int | None = None
    then: Literal["reset", "close", "hold"] = "reset"
    pause_s: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done to one request and to its response.

    Attributes:
        request: what happens on the way to the server.
        response: what happens on the way back, once the server has answered.
        answer: what the proxy answers itself; the server never sees the request.
        times: how many copies of the request the server gets, all at once.
        before: what happens while the request is on its way, before any of it has passed.
    """

    request: Way = Way()
    response: Way = Way()
    answer: bytes | None = None
    times: int = 1
    before: Callable[[], None] | None = None


PASS: Final = Fault()
LOST_RESPONSE: Final = Fault(response=Way(stop_at=0))
TWICE: Final = Fault(times=2)
NEVER_ANSWERED: Final = Fault(response=Way(stop_at=0, then="hold"))


def reset_request(after: int) -> Fault:
    """Return the fault of a connection that is reset after that many bytes of a request."""
    return Fault(request=Way(stop_at=after))


def reset_response(after: int) -> Fault:
    """Return the fault of a connection that is reset after that many bytes of a response."""
    return Fault(response=Way(stop_at=after))


def cut_request(after: int) -> Fault:
    """Return the fault of a request that ends after that many bytes."""
    return Fault(request=Way(stop_at=after, then="close"))


def cut_response(after: int) -> Fault:
    """Return the fault of a response that ends after that many bytes."""
    return Fault(response=Way(stop_at=after, then="close"))


def answered(status: int, *, retry_after: str | None = None) -> Fault:
    """Return the fault of a request that something before the server answers."""
    asked = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    return Fault(answer=f"HTTP/1.1 {status} Fault\r\n{asked}Content-Length: 0\r\n\r\n".encode())


@final
@dataclass(slots=True, kw_only=True)
class Seen:
    """A request that came, and what has become of it so far.

    Attributes:
        line: method and path.
        key: its idempotency key.
        fault: what was done to it.
        status: what the server answered; None where it did not.
        request_bytes: the size of what the server got of it.
        response_bytes: the size of what the client got.
    """

    line: str
    key: str | None
    fault: Fault
    status: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0

    def add_request(self, num_bytes: int) -> None:
        """Count bytes for the server."""
        self.request_bytes += num_bytes

    def add_response(self, num_bytes: int) -> None:
        """Count bytes for the client."""
        self.response_bytes += num_bytes


@final
@dataclass(slots=True)
class Plan:
    """The faults to come, by what they are for; thread-safe."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _faults: list[tuple[re.Pattern[str], Iterator[Fault]]] = field(
        default_factory=list[tuple[re.Pattern[str], Iterator[Fault]]]
    )

    def add(self, pattern: str, faults: Iterable[Fault]) -> None:
        """Have the next requests whose method and path match treated so, one fault each."""
        with self._lock:
            self._faults.append((re.compile(pattern), iter(faults)))

    def clear(self) -> None:
        """Let everything pass from now on."""
        with self._lock:
            self._faults.clear()

    def take(self, line: str) -> Fault:
        """Return what is to be done to a request."""
        with self._lock:
            for pattern, faults in self._faults:
                if pattern.search(line) and (fault := next(faults, None)) is not None:
                    return fault
        return PASS
