"""What losses on sampled tokens have in common: the ratio of two policies, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LossInputs = Mapping[str, jax.Array]
"""A loss's inputs by name, in the shape of the target logprobs; 0 where not active."""

LossScalars = Mapping[str, float | bool | jax.Array]
"""A loss's settings by name: numbers are traced, so that another value compiles nothing."""


def log_ratio(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs
) -> Float[Array, "*shape"]:
    """Return lp - q: logprobs under the trained weights minus those under the sampling ones."""
    return target_logprobs - inputs["logprobs"]


def ratio(target_logprobs: Float[Array, "*shape"], inputs: LossInputs) -> Float[Array, "*shape"]:
    """Return r = exp(lp - q)."""
    return jnp.exp(log_ratio(target_logprobs, inputs))


def clip_ratio(values: Float[Array, "*shape"], settings: LossScalars) -> Float[Array, "*shape"]:
    """Return the ratio within `clip_low_threshold` and `clip_high_threshold`, as a constant."""
    low, high = settings["clip_low_threshold"], settings["clip_high_threshold"]
    return jax.lax.stop_gradient(jnp.clip(values, low, high))
