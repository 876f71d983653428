"""What a loss is: a pure function of arrays, with a specification of what it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Array = Any
"""A NumPy or JAX array: losses are written once, with the operators that both have."""

LossSettings = Mapping[str, float | bool]
"""A loss's settings by name, completed with defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInput:
    """One entry of `loss_fn_inputs` that a loss reads.

    Attributes:
        name: its key.
        dtype: `int` takes integer tensors, `float` takes floating-point and integer ones.
        shape: `targets`: the shape of `target_tokens`; `positions`: [N]; `positions_or_scalar`: [N]
            or [1].
        required: whether a datum without it is refused.
    """

    name: str
    dtype: Literal["int", "float"] = "float"
    shape: Literal["targets", "positions", "positions_or_scalar"] = "targets"
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSetting:
    """One key of `loss_fn_config` that a loss reads.

    Attributes:
        name: its key.
        default: the value when absent; its type is the type that is accepted.
        minimum: the smallest accepted number, if bounded.
        maximum: the largest accepted number, if bounded.
        at_most: the name of another setting that this one must not exceed, if there is one.
    """

    name: str
    default: float | bool
    minimum: float | None = None
    maximum: float | None = None
    at_most: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """What a loss is called, reads and counts; every backend that offers it says the same.

    Attributes:
        name: what `loss_fn` says.
        source: where the formula was published.
        inputs: what it reads besides `target_tokens`, which every loss takes.
        settings: the keys of its config; an unknown key is refused.
        multiple_targets: whether `target_tokens` may be [N, K].
        active_input: an input whose zeros make a position inactive: not counted, no gradient.
        hides_inactive: whether an inactive position returns a logprob of 0.0 in place of its own.
            Where there is no target the logprob is NaN whatever the loss.
        rows_per_term: how many neighbouring datums make one term of the loss: 2 for pairs.
    """

    name: str
    source: str
    inputs: tuple[LossInput, ...] = ()
    settings: tuple[LossSetting, ...] = ()
    multiple_targets: bool = False
    active_input: str | None = None
    hides_inactive: bool = False
    rows_per_term: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LossFunction(LossSpec):
    """A loss that trainers can be asked for by name.

    Attributes:
        compute: takes `target_logprobs` (float32, natural log, [..., N] or [..., N, K]), the loss's
            inputs by name in the same shape (absent optional ones are missing) and its settings by
            name, whose numbers may be scalars of the backend's array library; returns the
            elementwise loss in the shape of `target_logprobs`. Pure; uses nothing but arithmetic
            and functions that NumPy and JAX arrays share, or the array library of the backend that
            it is meant for. Values at ignored positions do not count and may be anything finite.
        combine: for losses whose terms are not sums over positions. What `compute` returns is then
            summed over the active positions of each row, and `combine` takes these sums, [...,
            rows_per_term], with the settings, and returns the loss of each term, [...].
    """

    compute: Callable[[Array, Mapping[str, Array], LossSettings], Array]
    combine: Callable[[Array, LossSettings], Array] | None = None

    @classmethod
    def from_spec(
        cls,
        spec: LossSpec,
        *,
        compute: Callable[[Array, Mapping[str, Array], LossSettings], Array],
        combine: Callable[[Array, LossSettings], Array] | None = None,
    ) -> Self:
        """Return a backend's implementation of a loss that is specified elsewhere."""
        fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(LossSpec)}
        return cls(**fields, compute=compute, combine=combine)
