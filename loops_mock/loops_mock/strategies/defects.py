"""Defects: values with one named thing wrong, and the field that whoever refuses them must name."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, JsonValue
from pydantic.fields import FieldInfo

from loops_core.types.base import WireModel
from loops_core.types.tensor import TensorData

ValueT = TypeVar("ValueT")

_KINDS: Final[Mapping[Any, frozenset[str]]] = {
    type(None): frozenset({"null"}),
    bool: frozenset({"bool"}),
    int: frozenset({"number"}),
    float: frozenset({"number"}),
    str: frozenset({"text"}),
    bytes: frozenset({"text"}),
    datetime: frozenset({"text", "number"}),
    Path: frozenset({"text"}),
    list: frozenset({"list"}),
    tuple: frozenset({"list"}),
    dict: frozenset({"object"}),
    Mapping: frozenset({"object"}),
}
"""The kinds of JSON that a type may be read from."""

_FOREIGN: Final[tuple[tuple[str, JsonValue], ...]] = (
    ("object", {"wrong": True}),
    ("number", 7.5),
    ("list", [[]]),
)

_BEYOND: Final = 1.0

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Defect(Generic[ValueT]):
    """A value with one thing wrong.

    Attributes:
        name: what is wrong, such as `lora_rank below its bound`.
        field: the argument or field that the refusal must name.
        value: the value: for a wire type its JSON as a dict, else the Python value.
    """

    name: str
    field: str
    value: ValueT


def break_fields(
    cls: type[WireModel], fields: Mapping[str, JsonValue]
) -> list[Defect[dict[str, JsonValue]]]:
    """Return every defect that a valid value's JSON can be given, one field at a time.

    Args:
        cls: the value's type.
        fields: the JSON of a valid value, by alias.
    """
    if issubclass(cls, TensorData):
        return _break_tensor(fields)
    found: list[Defect[dict[str, JsonValue]]] = []
    for name, field in cls.model_fields.items():
        if field.exclude:
            continue
        wire = _wire_name(name, field)
        rest = {key: value for key, value in fields.items() if key not in _all_names(name, field)}
        if field.is_required():
            found.append(Defect(f"{wire} missing", wire, rest))
        wrongs = _wrong_values(field.annotation, field.metadata)
        found += [Defect(f"{wire} {what}", wire, {**rest, wire: bad}) for what, bad in wrongs]
    return found


def _break_tensor(fields: Mapping[str, JsonValue]) -> list[Defect[dict[str, JsonValue]]]:
    whole: dict[str, JsonValue] = {"data": [1, 2], "dtype": "int64", "shape": [2]}
    broken: list[tuple[str, str, dict[str, JsonValue]]] = [
        ("unknown", "dtype", {**fields, "dtype": "float31"}),
        ("of another size", "shape", {**whole, "shape": [3]}),
        ("negative", "shape", {**whole, "shape": [-2]}),
        ("out of range", "data", {**whole, "data": [1, 2**63]}),
        ("with a fraction", "data", {**whole, "data": [1, 2.5]}),
        ("with a null among integers", "data", {**whole, "data": [1, None]}),
        ("with a text", "data", {**whole, "data": [1, "2"]}),
    ]
    return [Defect(f"{field} {what}", field, bad) for what, field, bad in broken]


def _wire_name(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return name


def _all_names(name: str, field: FieldInfo) -> set[str]:
    alias = field.validation_alias
    others = alias.choices if isinstance(alias, AliasChoices) else []
    return {name, *(str(other) for other in others)}


def _wrong_values(hint: Any, metadata: list[Any]) -> list[tuple[str, JsonValue]]:
    """Return what a field must not hold, each with a word for it."""
    kinds = _kinds(hint)
    if not kinds:
        return []
    foreign = [bad for kind, bad in _FOREIGN if kind not in kinds][:1]
    found: list[tuple[str, JsonValue]] = [("of another kind", bad) for bad in foreign]
    return found + _beyond(hint, metadata)


def _beyond(hint: Any, metadata: list[Any]) -> list[tuple[str, JsonValue]]:
    """Return values beyond a field's bounds, or outside its set of names."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = [m for a in args[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return _beyond(args[0], [*metadata, *inner])
    if origin in (Union, types.UnionType):
        some = [arg for arg in args if arg is not type(None)]
        return _beyond(some[0], metadata) if len(some) == 1 else []
    named = origin is Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum))
    found: list[tuple[str, JsonValue]] = [("not in its set", "no such name")] if named else []
    for entry in metadata:
        for bound, word, step in (
            ("ge", "below its bound", -_BEYOND),
            ("le", "above its bound", _BEYOND),
            ("gt", "at its lower bound", 0.0),
            ("lt", "at its upper bound", 0.0),
        ):
            limit = getattr(entry, bound, None)
            if limit is not None:
                found.append((word, type(limit)(limit + step)))
        if getattr(entry, "min_length", None):
            found.append(("empty", [] if origin is list else ""))
    return found


def _kinds(hint: Any) -> frozenset[str]:
    """Return the kinds of JSON that a hint may be read from; none = any."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is JsonValue or hint is Any or hint is object:
        return _NONE
    if origin is Annotated:
        return _kinds(args[0])
    if origin in (Union, types.UnionType):
        parts = [_kinds(arg) for arg in args]
        return _NONE.union(*parts) if all(parts) else _NONE
    if origin is Literal:
        return _NONE.union(*(_KINDS[type(arg)] for arg in args))
    cls: Any = hint if origin is None else origin
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return frozenset({"text"})
    if isinstance(cls, type) and issubclass(cls, WireModel):
        return frozenset({"object"})
    return _KINDS.get(cls, _NONE)
