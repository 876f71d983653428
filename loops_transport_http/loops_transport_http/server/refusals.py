"""Refusals that only HTTP knows: no key, too large a body, a link whose time is over."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import final

from loops_core.errors import LoopsError
from loops_transport_http.wire import names
from loops_transport_http.wire.errors import PASSING, write_error


@final
class Refused(Exception):  # noqa: N818 - carries an error, is none of the tree
    """Ends a request with a status of its own; the error travels as what it is.

    Attributes:
        status: the response's status.
        error: what the caller is told.
        headers: further headers.
    """

    def __init__(
        self, status: HTTPStatus, error: LoopsError, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep them."""
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})

    def response(self) -> tuple[bytes, int, dict[str, str]]:
        """Return content, status and headers of the response."""
        _, headers, content = write_error(self.error)
        if self.status not in PASSING:
            headers |= {
                names.ERROR_SOURCE: names.FINAL_ERROR,
                names.ERROR_CODE: type(self.error).__name__,
            }
        return content, int(self.status), headers | self.headers
