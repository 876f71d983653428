"""A trainer's state as a value, and the optimizer step as a function of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from loops_core.errors import UsageError
from loops_core.types.training import AdamParams
from loops_mock.exact import Floats, power, total
from loops_mock.model import Adapter, Factors, Gradient

Moments = Mapping[str, Factors]
"""A moment of the gradient for every factor, float32."""


@final
@dataclass(frozen=True, slots=True)
class Pending:
    """What was added up since the last optimizer step.

    Attributes:
        gradient: the sum, for the whole matrix of each place that the adapter changes.
        active: the number of active positions.
        skip_normalization: whether the sum is not to be divided by that number.
    """

    gradient: Gradient
    active: int
    skip_normalization: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerState:
    """Everything a trainer remembers.

    Attributes:
        adapter: the trained weights.
        first: Adam's first moments.
        second: Adam's second moments.
        step: optimizer steps applied.
        pending: gradients that wait for the next step, if any.
    """

    adapter: Adapter
    first: Moments
    second: Moments
    step: int = 0
    pending: Pending | None = None

    @classmethod
    def fresh(cls, adapter: Adapter) -> Self:
        """Return a state that starts with these weights."""
        zeros = {
            site: Factors(*(np.zeros_like(factor) for factor in factors))
            for site, factors in adapter.factors.items()
        }
        return cls(adapter=adapter, first=zeros, second=zeros)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array by its name, in a fixed order."""
        groups = {"adapter": self.adapter.factors, "first": self.first, "second": self.second}
        arrays: dict[str, NDArray[Any]] = {
            f"{group}/{site}.{name}": factor
            for group, factors_by_site in groups.items()
            for site, factors in factors_by_site.items()
            for name, factor in factors._asdict().items()
        }
        if self.pending is not None:
            for site, values in self.pending.gradient.items():
                arrays[f"pending/{site}"] = values
        return arrays

    def header(self) -> dict[str, object]:
        """Return everything that is no array."""
        pending = self.pending
        return {
            "rank": self.adapter.rank,
            "alpha": self.adapter.alpha,
            "target_modules": list(self.adapter.factors),
            "step": self.step,
            "pending": None
            if pending is None
            else {"active": pending.active, "skip_normalization": pending.skip_normalization},
        }

    def digest(self) -> str:
        """Return a SHA-256 of the header and every array."""
        sha = hashlib.sha256(json.dumps(self.header(), sort_keys=True).encode())
        for name, array in self.arrays().items():
            little = array.astype(array.dtype.newbyteorder("<"))
            sha.update(f"{name} {array.dtype.name} {array.shape}".encode())
            sha.update(little.tobytes())
        return sha.hexdigest()


def apply_adam(state: TrainerState, params: AdamParams) -> tuple[TrainerState, dict[str, float]]:
    """Return the state after one step, and its metrics.

    The gradient is divided by the number of active positions, then clipped to a global norm.
    Moments are corrected for their start at zero; weight decay is decoupled. Arithmetic is float64,
    what is kept is rounded to float32.

    Raises:
        UsageError: there is no gradient, or the step would leave numbers that are not finite.

    Source:
        Adam, arXiv:1412.6980, algorithm 1; decoupled decay, arXiv:1711.05101, algorithm 2.
    """
    pending = state.pending
    if pending is None:
        raise UsageError(
            "optim_step has no gradients; expected a forward_backward since the last optim_step"
        )
    divisor = 1 if pending.skip_normalization else max(pending.active, 1)
    gradient = _flatten(state.adapter.backward(pending.gradient)) * (1.0 / divisor)
    norm = float(np.sqrt(total(gradient * gradient)))
    if params.grad_clip_norm > 0 and norm > params.grad_clip_norm:
        gradient = gradient * (params.grad_clip_norm / norm)
    step = state.step + 1
    old = (_flatten(state.adapter.factors), _flatten(state.first), _flatten(state.second))
    with np.errstate(over="ignore", invalid="ignore"):
        new = _step(*old, gradient, params, step)
    if not all(np.isfinite(values).all() for values in new):
        raise UsageError(
            f"optim_step with learning_rate {params.learning_rate} and grad_norm {norm:.3g} leaves "
            "weights or moments that are not finite; expected a step that float32 holds",
            field="adam_params",
        )
    weights, first, second = (_unflatten(values, state.adapter.factors) for values in new)
    metrics = {
        "grad_norm": norm,
        "learning_rate": params.learning_rate,
        "step": float(step),
        "active_tokens": float(pending.active),
    }
    adapter = replace(state.adapter, factors=weights)
    return TrainerState(adapter=adapter, first=first, second=second, step=step), metrics


def _step(
    weights: NDArray[np.float32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    gradient: Floats,
    params: AdamParams,
    step: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return weights and moments after a step; all are flat."""
    m = params.beta1 * first.astype(np.float64) + (1.0 - params.beta1) * gradient
    v = params.beta2 * second.astype(np.float64) + (1.0 - params.beta2) * (gradient * gradient)
    m_hat = m / (1.0 - power(params.beta1, step))
    v_hat = v / (1.0 - power(params.beta2, step))
    old = weights.astype(np.float64)
    update = m_hat / (np.sqrt(v_hat) + params.eps) + params.weight_decay * old
    new = old - params.learning_rate * update
    return new.astype(np.float32), m.astype(np.float32), v.astype(np.float32)


def _flatten(factors_by_site: Mapping[str, Factors]) -> NDArray[Any]:
    """Return all numbers in one row, in the order of places and factors."""
    return np.concatenate([x.reshape(-1) for factors in factors_by_site.values() for x in factors])


def _unflatten(flat: NDArray[Any], like: Mapping[str, Factors]) -> dict[str, Factors]:
    """Return the numbers in the shapes of `like`."""
    found: dict[str, Factors] = {}
    start = 0
    for site, factors in like.items():
        parts: list[NDArray[Any]] = []
        for factor in factors:
            parts.append(flat[start : start + factor.size].reshape(factor.shape))
            start += factor.size
        found[site] = Factors(*parts)
    return found
