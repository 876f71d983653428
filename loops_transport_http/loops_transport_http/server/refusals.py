"""Refusals that only HTTP knows: no key, too large a body, a link whose time is over."""

from __future__ import annotations

from http import HTTPStatus
from typing import final

from loops_core.errors import LoopsError


@final
class Refused(Exception):  # noqa: N818 - carries an error, is none of the tree
    """Ends a request with a status of its own; the error travels as what it is.

    Attributes:
        status: the response's status.
        error: what the caller is told.
    """

    def __init__(self, status: HTTPStatus, error: LoopsError) -> None:
        """Keep both."""
        super().__init__(error.message)
        self.status = status
        self.error = error
