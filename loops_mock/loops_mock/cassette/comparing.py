"""Where two values differ first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, final

import numpy as np

from loops_core.types.arrays import AnyArray

_LONGEST: Final = 60


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two values differ.

    Attributes:
        field: the way to it, such as `data[0].loss_fn_inputs.weights.data[3]`.
        first: what stands there in one, as text.
        second: what stands there in the other.
    """

    field: str
    first: str
    second: str


def first_difference(
    first: object, second: object, *, field: str = "", ignore: frozenset[str] = frozenset()
) -> Difference | None:
    """Return where two JSON values with arrays in them differ first; None = nowhere.

    Fields are compared in the order in which the first value has them. NaN equals NaN.

    Args:
        first: one value.
        second: the other.
        field: the way to them.
        ignore: names of fields that are left out.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]})
    Difference(field='a[1]', first='2', second='3')
    """
    if _is_object(first) and _is_object(second):
        return _in_objects(first, second, field, ignore)
    if _is_array(first) and _is_array(second) and first.shape == second.shape:
        return _in_arrays(first, second, field)
    if _is_list(first) and _is_list(second):
        return _in_sequences(_items(first), _items(second), field, ignore)
    if _is_same(first, second):
        return None
    return Difference(field or "value", shown(first), shown(second))


def num_differences(first: object, second: object) -> int:
    """Return roughly how much two values differ: 0 = not at all.

    >>> num_differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    2
    """
    if _is_object(first) and _is_object(second):
        both = first.keys() & second.keys()
        alone = len(first.keys() ^ second.keys())
        return alone + sum(num_differences(first[name], second[name]) for name in both)
    if _is_list(first) and _is_list(second) and not (_is_array(first) or _is_array(second)):
        paired = (num_differences(a, b) for a, b in zip(first, second, strict=False))
        return sum(paired) + 2 * abs(len(first) - len(second))
    return 0 if first_difference(first, second) is None else 1


def shown(value: object) -> str:
    """Return a value as short text."""
    text = f"{value.dtype}{list(value.shape)}" if _is_array(value) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _is_same(first: object, second: object) -> bool:
    both_nan = first != first and second != second
    return type(first) is type(second) and (first == second or both_nan)


def _in_objects(
    first: dict[str, Any], second: dict[str, Any], field: str, ignore: frozenset[str]
) -> Difference | None:
    for name in [*first, *(each for each in second if each not in first)]:
        if name in ignore:
            continue
        way = f"{field}.{name}" if field else name
        if name not in first or name not in second:
            return Difference(way, _at(first, name), _at(second, name))
        found = first_difference(first[name], second[name], field=way, ignore=ignore)
        if found is not None:
            return found
    return None


def _in_arrays(first: AnyArray, second: AnyArray, field: str) -> Difference | None:
    differs = (first != second) & ~((first != first) & (second != second))
    if not differs.any():
        return None
    place = int(np.argmax(differs))
    return Difference(f"{field}[{place}]", shown(first[place].item()), shown(second[place].item()))


def _in_sequences(
    first: Sequence[object], second: Sequence[object], field: str, ignore: frozenset[str]
) -> Difference | None:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        found = first_difference(one, other, field=f"{field}[{place}]", ignore=ignore)
        if found is not None:
            return found
    if len(first) != len(second):
        return Difference(f"len({field})", str(len(first)), str(len(second)))
    return None


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[AnyArray]:
    return isinstance(value, np.ndarray)


def _is_list(value: object) -> TypeGuard[AnyArray | list[Any]]:
    return isinstance(value, list | np.ndarray)


def _items(value: AnyArray | list[Any]) -> list[Any]:
    return value.tolist() if _is_array(value) else [*value]


def _at(fields: dict[str, Any], name: str) -> str:
    return shown(fields[name]) if name in fields else "(absent)"
