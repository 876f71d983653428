"""A strategy for every type that goes over the wire.

They are derived from the types' own fields and bounds, so a new type has one from the start. What
is drawn is small, finite where a NaN would not come back from JSON, and valid unless asked for a
defect.
"""

from __future__ import annotations

import enum
import functools
import importlib
import pkgutil
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    overload,
)

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import JsonValue
from pydantic.fields import FieldInfo

import loops_core.types
from loops_core.types.arrays import FLOATS, DType, numpy_dtype
from loops_core.types.base import WireModel
from loops_core.types.datum import ImageAssetPointerChunk
from loops_core.types.tensor import TensorData
from loops_mock.strategies.defects import Defect, break_fields

ModelT = TypeVar("ModelT", bound=WireModel)
Strategy = st.SearchStrategy[Any]

_MOST = 3
"""The most entries of a drawn list, object or axis."""


def wire_types() -> list[type[WireModel]]:
    """Return every type that goes over the wire, those that nobody can make left out."""
    for module in pkgutil.iter_modules(loops_core.types.__path__, "loops_core.types."):
        importlib.import_module(module.name)
    ours = (cls for cls in _subclasses(WireModel) if cls.__module__.startswith("loops_core.types."))
    return sorted(set(ours) - {ImageAssetPointerChunk}, key=lambda cls: cls.__name__)


@overload
def wire_values(
    cls: type[ModelT], *, invalid: Literal[False] = False
) -> st.SearchStrategy[ModelT]: ...


@overload
def wire_values(
    cls: type[ModelT], *, invalid: Literal[True]
) -> st.SearchStrategy[Defect[dict[str, JsonValue]]]: ...


def wire_values(
    cls: type[ModelT], *, invalid: bool = False
) -> st.SearchStrategy[ModelT] | st.SearchStrategy[Defect[dict[str, JsonValue]]]:
    """Return a strategy for one type.

    Args:
        cls: the type.
        invalid: draw the JSON of a value with one field broken, as a `Defect`; `cls.model_validate`
            refuses it and names the field. A type without fields has none.
    """
    values = cast("st.SearchStrategy[ModelT]", _wire_values(cls))
    return _wire_defects(values) if invalid else values


@st.composite
def _wire_defects(
    draw: st.DrawFn, values: st.SearchStrategy[WireModel]
) -> Defect[dict[str, JsonValue]]:
    value = draw(values)
    found = break_fields(type(value), value.model_dump(mode="json", by_alias=True))
    return draw(st.sampled_from(found) if found else st.nothing())


@functools.cache
def _wire_values(cls: type[WireModel]) -> Strategy:
    if issubclass(cls, TensorData):
        return tensors()
    if issubclass(cls, ImageAssetPointerChunk):
        return st.nothing()
    given: dict[str, Strategy] = {}
    absent: dict[str, Strategy] = {}
    for name, field in cls.model_fields.items():
        if not field.exclude:
            place = given if field.is_required() else absent
            place[name] = _values(field.annotation, field.metadata)
    return st.fixed_dictionaries(given, optional=absent).map(lambda fields: cls(**fields))


@st.composite
def tensors(draw: st.DrawFn, *, infinities: bool = False) -> TensorData:
    """Draw a tensor of any dtype with up to three axes; NaN may be in it, JSON has null for it."""
    dtype = draw(st.sampled_from(get_args(DType)))
    shape = tuple(draw(st.lists(st.integers(0, _MOST), max_size=3)))
    if dtype not in FLOATS:
        return TensorData(data=draw(npst.arrays(numpy_dtype(dtype), shape)))
    width = 64 if dtype == "float64" else 16 if dtype == "float16" else 32
    numbers = st.floats(width=width, allow_infinity=infinities)
    drawn = draw(npst.arrays(np.dtype(f"float{width}"), shape, elements=numbers))
    with np.errstate(over="ignore"):
        array = drawn.astype(numpy_dtype(dtype))
    if not infinities:  # the largest float32 rounds to infinity in bfloat16
        array = np.where(np.isinf(array), np.zeros_like(array), array)
    return TensorData(data=array)


def json_values() -> st.SearchStrategy[JsonValue]:
    """Return a strategy for whatever JSON can say."""
    leaves = st.none() | st.booleans() | _integers([]) | _floats([]) | st.text(max_size=_MOST)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=_MOST)
            | st.dictionaries(st.text(max_size=_MOST), inner, max_size=_MOST)
        ),
        max_leaves=4,
    )


def _values(hint: Any, metadata: list[Any]) -> Strategy:
    """Return a strategy for a type hint with its bounds."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is JsonValue:
        return json_values()
    if origin is Annotated:
        inner = [m for a in args[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return _values(args[0], [*metadata, *inner])
    if origin in (Union, types.UnionType):
        return st.one_of(*(_values(arg, metadata) for arg in args if arg is not WireModel))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is list:
        fewest = int(_bound(metadata, "min_length") or 0)
        return st.lists(_values(args[0], []), min_size=fewest, max_size=max(fewest, _MOST))
    if origin is tuple:
        return st.tuples(*(_values(arg, []) for arg in args))
    if origin in (dict, Mapping):
        return st.dictionaries(_values(args[0], []), _values(args[1], []), max_size=_MOST)
    return _plain_values(hint, metadata)


def _plain_values(cls: Any, metadata: list[Any]) -> Strategy:
    if issubclass(cls, WireModel):
        # A base class as a field means any value of the tree: which one, JSON does not say.
        return st.nothing() if cls is WireModel else wire_values(cls)
    if issubclass(cls, enum.Enum):
        return st.sampled_from(cls)
    plain: dict[type, Strategy] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: _integers(metadata),
        float: _floats(metadata),
        str: _texts(metadata),
        bytes: st.binary(max_size=8),
        datetime: st.datetimes(timezones=st.just(UTC)),
        Path: st.sampled_from([Path("adapter"), Path("/tmp/a b"), Path("..")]),
    }
    return plain[cls]


def _integers(metadata: list[Any]) -> st.SearchStrategy[int]:
    low, high, above = (_bound(metadata, name) for name in ("ge", "le", "gt"))
    lowest = -(2**63) if low is None else int(low)
    return st.integers(
        lowest if above is None else int(above) + 1, 2**63 - 1 if high is None else int(high)
    )


def _floats(metadata: list[Any]) -> st.SearchStrategy[float]:
    low, high = _bound(metadata, "ge"), _bound(metadata, "le")
    above, below = _bound(metadata, "gt"), _bound(metadata, "lt")
    return st.floats(
        min_value=low if above is None else above,
        max_value=high if below is None else below,
        exclude_min=above is not None,
        exclude_max=below is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _texts(metadata: list[Any]) -> st.SearchStrategy[str]:
    shortest, longest = _bound(metadata, "min_length"), _bound(metadata, "max_length")
    return st.text(min_size=int(shortest or 0), max_size=int(min(longest or 8, 8)))


def _bound(metadata: list[Any], name: str) -> float | None:
    """Return the bound of this name, if the field has one."""
    found = (getattr(entry, name, None) for entry in metadata)
    return next((bound for bound in found if bound is not None), None)


def _subclasses(cls: type[WireModel]) -> Iterator[type[WireModel]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
