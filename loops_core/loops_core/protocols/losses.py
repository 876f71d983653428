"""What a loss is: a pure function of arrays with a description of what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Array = Any
"""A NumPy or JAX array: losses are written once, with the operators that both have."""


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
    """

    name: str
    default: float | bool
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossFunction:
    """A loss that trainers can be asked for by name.

    Attributes:
        name: what `loss_fn` says.
        compute: takes `target_logprobs` (float32, natural log, [..., N] or [..., N, K]), the loss's
            inputs by name in the same shape (absent optional ones are missing) and its settings by
            name; returns the elementwise loss in the shape of `target_logprobs`. Pure; uses
            nothing but arithmetic and functions that NumPy and JAX arrays share, or the array
            library of the backend that it is meant for. Values at ignored positions do not count
            and may be anything finite.
        source: where the formula was published.
        inputs: what it reads besides `target_tokens`, which every loss takes.
        settings: the keys of its config; an unknown key is refused.
        multiple_targets: whether `target_tokens` may be [N, K].
        active_input: an input whose zeros make a position inactive: not counted, no gradient.
    """

    name: str
    compute: Callable[[Array, Mapping[str, Array], Mapping[str, float | bool]], Array]
    source: str
    inputs: tuple[LossInput, ...] = ()
    settings: tuple[LossSetting, ...] = ()
    multiple_targets: bool = False
    active_input: str | None = None
