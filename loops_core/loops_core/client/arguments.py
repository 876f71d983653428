"""Checks of what a caller passed: each names the argument, its value and what was expected."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar, cast

from pydantic import ValidationError

from loops_core.errors import UnsupportedError, UsageError
from loops_core.types.checkpoint import CheckpointAddress, CheckpointTarget, is_checkpoint_name
from loops_core.types.datum import Datum

ValueT = TypeVar("ValueT")

_MOST_SHOWN: Final = 80
_LONGEST_KEY: Final = 200
"""Leaves room for the number of a part, where a batch is split."""


def shown(value: object) -> str:
    """Return the value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def check_type(name: str, value: object, expected: type[ValueT]) -> ValueT:
    """Return the value, which is an `expected`."""
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise UsageError(
            f"{name} must be {_article(expected.__name__)}, not {shown(value)} "
            f"({type(value).__name__})",
            field=name,
        )
    return value


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOaeio" else f"a {noun}"


def check_int(name: str, value: object, *, minimum: int) -> int:
    """Return the value, a whole number that is not below `minimum`."""
    number = check_type(name, value, int)
    if number < minimum:
        raise UsageError(f"{name} must be at least {minimum}, not {number}", field=name)
    return number


def check_seconds(name: str, value: object) -> float:
    """Return the value, a duration that is not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise UsageError(f"{name} must be a number of seconds, not {shown(value)}", field=name)
    if value < 0:
        raise UsageError(f"{name} must be at least 0 seconds, not {value:g}", field=name)
    return float(value)


def check_text(name: str, value: object) -> str:
    """Return the value, a text that is not empty."""
    text = check_type(name, value, str)
    if not text:
        raise UsageError(f"{name} must not be empty", field=name)
    return text


def check_checkpoint_name(name: str, value: object) -> str:
    """Return the value, something that a checkpoint may be called."""
    text = check_type(name, value, str)
    if not is_checkpoint_name(text):
        raise UsageError(
            f"{name} {shown(text)} cannot name a checkpoint: expected 1 to 128 letters, digits, "
            "'.', '_' or '-', not starting with a dot",
            field=name,
        )
    return text


def check_sampler_path(name: str, value: object) -> CheckpointAddress:
    """Return the parts of a value that is the address of a checkpoint to sample from."""
    text = check_text(name, value)
    try:
        address = CheckpointAddress.parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}", field=name) from error
    if address.target is not CheckpointTarget.SAMPLER:
        raise UsageError(
            f"{name} {shown(text)} is a resumable checkpoint: expected "
            "bt://loops:<run_id>/sampler_weights/<name>, as save_weights_for_sampler returns it",
            field=name,
        )
    return address


def check_key(value: object) -> str | None:
    """Return the value, an idempotency key or None."""
    if value is None:
        return None
    key = check_text("idempotency_key", value)
    if len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise UsageError(
            f"idempotency_key must be 1 to {_LONGEST_KEY} printable ASCII characters, "
            f"not {shown(key)}",
            field="idempotency_key",
        )
    return key


def check_data(value: object) -> list[Datum]:
    """Return the value, a sequence of datums that is not empty, as a list."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise UsageError(
            f"data must be a list of Datum, not {type(cast('object', value)).__name__}: wrap one "
            "datum in a list",
            field="data",
        )
    data = list(cast("Sequence[object]", value))
    if not data:
        raise UsageError("data must hold at least one Datum, not an empty list", field="data")
    return [check_type(f"data[{index}]", datum, Datum) for index, datum in enumerate(data)]


def check_offered(name: str, value: object, *, default: object, missing: str) -> None:
    """Refuse an argument that cannot be honoured; nobody's wish is dropped silently."""
    if value != default:
        raise UnsupportedError(
            f"{name}={shown(value)} cannot be honoured: {missing}; leave {name} at {default!r}",
            field=name,
        )


@contextmanager
def usage_errors(prefix: str = "") -> Generator[None]:
    """Turn what pydantic finds wrong with a body into the `UsageError` of the caller's argument."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != "function-after")
        name = f"{prefix}{field}" or "argument"
        raise UsageError(
            f"{name}: {first['msg']}, not {shown(first['input'])}", field=name
        ) from error
