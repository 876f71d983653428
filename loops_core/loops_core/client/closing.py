"""What every client shares: it is closed once, by hand or at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Closable(ABC):
    """A client that can be used in `with` and `async with`; closing twice is no error."""

    @abstractmethod
    def close(self) -> None:
        """End this client; every later call raises `UsageError`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
