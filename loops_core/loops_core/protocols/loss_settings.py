"""A loss's settings: checked against its specification, and completed with its defaults."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from loops_core.errors import UsageError
from loops_core.protocols.losses import LossSetting, LossSettings, LossSpec
from loops_core.types.training import LossFnConfig


def complete_settings(loss: LossSpec, config: LossFnConfig) -> LossSettings:
    """Return every setting of the loss: what `config` says, and defaults for the rest.

    Raises:
        UsageError: a key that the loss does not have, a value of another type or out of its range,
            or one beyond the setting that bounds it; the message names the key.
    """
    known = {setting.name: setting for setting in loss.settings}
    values = {name: setting.default for name, setting in known.items()}
    for name, value in config.items():
        if name not in known:
            raise _unknown(name, loss, known)
        values[name] = _read(known[name], value=value)
    for setting in loss.settings:
        if setting.at_most is not None and values[setting.name] > values[setting.at_most]:
            field = _field(setting.name)
            raise UsageError(
                f"{field} is {values[setting.name]!r}: expected at most {setting.at_most}, which "
                f"is {values[setting.at_most]!r}",
                field=field,
            )
    return values


def _unknown(name: str, loss: LossSpec, known: Mapping[str, LossSetting]) -> UsageError:
    expected = ", ".join(sorted(known)) or "no settings"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    field = _field(name)
    return UsageError(
        f"{field} is not a setting of {loss.name}: expected {expected}{hint}", field=field
    )


def _read(setting: LossSetting, *, value: float | bool | str) -> float | bool:
    field = _field(setting.name)
    if isinstance(setting.default, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{field} is {value!r}: expected true or false", field=field)
        return value
    number = math.nan
    if not isinstance(value, bool | str):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond every float
            number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"{field} is {value!r}: expected a finite number", field=field)
    low = -math.inf if setting.minimum is None else setting.minimum
    high = math.inf if setting.maximum is None else setting.maximum
    if not low <= number <= high:
        raise UsageError(
            f"{field} is {value!r}: expected a number from {low} to {high}", field=field
        )
    return number


def _field(name: str) -> str:
    return f"loss_fn_config[{name!r}]"
