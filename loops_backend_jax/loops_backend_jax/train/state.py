"""The state of a trainer: one frozen tree, replaced as a whole by every step."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import AdapterSpec, Factors, init_factors


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Everything that a trainer's next results depend on, besides the frozen base.

    Attributes:
        spec: rank, alpha and targets of the adapter.
        factors: the adapter's arrays, float32.
        first_moment, second_moment: Adam's, in the same tree, float32.
        step: optimizer steps applied.
        gradients: sum of the gradients since the last step, in the same tree; None: there are none.
        num_active: active positions that those gradients came from.
        normalised: whether they are to be divided by `num_active`; None: there are none.
    """

    spec: AdapterSpec
    factors: Factors
    first_moment: Factors
    second_moment: Factors
    step: int = 0
    gradients: Factors | None = None
    num_active: int = 0
    normalised: bool | None = None


def make_state(spec: AdapterSpec, factors: Factors) -> TrainState:
    """Return the state at step 0 of an adapter: moments zero, no gradients."""
    return TrainState(
        spec=spec,
        factors=factors,
        first_moment=jax.tree.map(jnp.zeros_like, factors),
        second_moment=jax.tree.map(jnp.zeros_like, factors),
    )


def init_state(config: ModelConfig, spec: AdapterSpec, *, seed: int) -> TrainState:
    """Return the state of a fresh adapter; the same seed gives the same bytes."""
    return make_state(spec, init_factors(config, spec, seed=seed))
