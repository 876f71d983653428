"""Strategies for errors: any class of the tree, with any of its fields set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from hypothesis import strategies as st

from loops_core import errors as tree
from loops_core.errors import LoopsError, SharedFields


def error_classes() -> list[type[LoopsError]]:
    """Return every class of the error tree, by name."""
    ours = {cls for cls in _below(LoopsError) if cls.__module__ == tree.__name__}
    return sorted(ours, key=lambda cls: cls.__name__)


def errors(cls: type[LoopsError] | None = None) -> st.SearchStrategy[LoopsError]:
    """Return a strategy for errors of one class, or of any."""
    if cls is None:
        return st.one_of(*(errors(each) for each in error_classes()))
    fields = st.fixed_dictionaries({}, optional=_fields(cls))
    return st.builds(_make, st.just(cls), _texts(), fields)


def _fields(cls: type[LoopsError]) -> dict[str, st.SearchStrategy[Any]]:
    hints = get_type_hints(cls.__init__)
    by_hint: dict[Any, st.SearchStrategy[Any]] = {
        str | None: _texts(),
        int | None: st.integers(0, 2**63 - 1),
        float | None: st.floats(0, 3600),
    }
    own = {name: by_hint[hints[name]] for name in cls.own_fields}
    return {**dict.fromkeys(SharedFields.__annotations__, _texts()), **own}


def _make(cls: type[LoopsError], message: str, fields: dict[str, Any]) -> LoopsError:
    return cls(message, **fields)


def _texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def _below(cls: type[LoopsError]) -> Iterator[type[LoopsError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _below(child)
