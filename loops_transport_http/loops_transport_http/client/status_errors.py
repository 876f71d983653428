"""Errors of the tree that are HTTP status errors too, for code that catches those."""

from __future__ import annotations

import functools
from typing import Any, cast

import httpx

from loops_core.errors import LoopsError


class _Answered(httpx.HTTPStatusError):
    """The half of an error that knows the response."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self._request = None


def refused(error: LoopsError, response: httpx.Response) -> LoopsError:
    """Return the error as an instance of its own class and of `httpx.HTTPStatusError`.

    Its copies, such as those that futures hand out, are so too; a pickle of it is the plain error.
    """
    made = _class_of(type(error))(error.message, **error.fields())  # type: ignore[arg-type]  # its own fields
    answered = cast("httpx.HTTPStatusError", made)
    answered.response = response
    answered.request = response.request
    return made


@functools.cache
def _class_of(plain: type[LoopsError]) -> type[LoopsError]:
    def copy(self: LoopsError) -> LoopsError:
        return refused(plain(self.message, **self.fields()), cast("Any", self).response)  # type: ignore[arg-type]

    def reduce(self: LoopsError) -> object:
        return plain(self.message, **self.fields()).__reduce__()  # type: ignore[arg-type]

    members = {
        "__doc__": plain.__doc__,
        "__module__": __name__,  # not the module of the tree: it is none of its classes
        "__qualname__": plain.__qualname__,
        "copy": copy,
        "__reduce__": reduce,
    }
    return cast("type[LoopsError]", type(plain.__name__, (plain, _Answered), members))
