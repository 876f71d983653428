"""The compiled passes: forward, forward and backward over one batch; the optimizer step.

Pure functions of arrays. Gradients are those of the loss SUM; nothing is divided before the
optimizer step. What changes from call to call is traced, so only new shapes compile.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from loops_backend_jax.lora.adapter import Factors, Params
from loops_backend_jax.losses.logprobs import chunk_tokens_for, make_head, target_logprobs
from loops_backend_jax.models.decoder import Decoder, apply_decoder, unembedding
from loops_backend_jax.train.batching import Batch

Scalar = float | jax.Array
"""A number that compiled functions take as an argument, so that another value compiles nothing."""

LossCompute = Callable[[jax.Array, Mapping[str, jax.Array], Mapping[str, float | bool]], jax.Array]


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """What a pass is compiled for, besides shapes; compares by value.

    Attributes:
        model: the module.
        compute: the loss's function.
        loss_settings: the loss's settings, sorted by name.
        max_logits_bytes: bound of the logits alive at a time.
    """

    model: Decoder
    compute: LossCompute
    loss_settings: tuple[tuple[str, float | bool], ...]
    max_logits_bytes: int


class PassResult(NamedTuple):
    """What a pass over one batch gives back.

    Attributes:
        loss_sum: scalar, the sum of the elementwise loss over active targets.
        logprobs: log-probability of each target, [rows, length] or with K; 0 where not scored.
    """

    loss_sum: Float[Array, ""]
    logprobs: Float[Array, "rows length *k"]


class AdamScalars(NamedTuple):
    """The numbers of one optimizer step, all traced.

    Attributes:
        learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm: as in `AdamParams`.
        divisor: what the summed gradients are divided by.
    """

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float
    divisor: float


def _loss(
    factors: Factors, params: Params, lora_scale: jax.Array, batch: Batch, plan: PassPlan
) -> tuple[Float[Array, ""], PassResult]:
    hidden, _ = apply_decoder(
        plan.model,
        params,
        factors,
        batch.tokens,
        batch.positions,
        batch.segment_ids,
        lora_scale=lora_scale,
    )
    head = make_head(unembedding(params), factors, lora_scale)
    num_tokens = batch.tokens.size
    flat_targets = batch.targets.reshape(num_tokens, *batch.targets.shape[2:])
    chunk_tokens = chunk_tokens_for(plan.model.config.vocab_size, num_tokens, plan.max_logits_bytes)
    logprobs = target_logprobs(
        hidden.reshape(num_tokens, -1), head, flat_targets, chunk_tokens=chunk_tokens
    ).reshape(batch.targets.shape)
    logprobs = jnp.where(batch.scored, logprobs, 0.0)
    loss = plan.compute(logprobs, batch.inputs, dict(plan.loss_settings))
    loss_sum = jnp.sum(jnp.where(batch.active, loss, 0.0))
    return loss_sum, PassResult(loss_sum, logprobs)


@functools.partial(jax.jit, static_argnames="plan")
def forward_pass(
    params: Params, factors: Factors, lora_scale: Scalar, batch: Batch, *, plan: PassPlan
) -> PassResult:
    """Return loss and log-probabilities of one batch."""
    return _loss(factors, params, jnp.float32(lora_scale), batch, plan)[1]


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="gradients")
def forward_backward_pass(
    params: Params,
    factors: Factors,
    lora_scale: Scalar,
    gradients: Factors,
    batch: Batch,
    *,
    plan: PassPlan,
) -> tuple[Factors, PassResult]:
    """Return `gradients` (given up) plus those of this batch's loss sum, and the result."""
    scale = jnp.float32(lora_scale)
    own, result = jax.grad(_loss, has_aux=True)(factors, params, scale, batch, plan)
    return jax.tree.map(jnp.add, gradients, own), result


@jax.jit
def zero_gradients(factors: Factors) -> Factors:
    """Return zeros in the tree of the factors."""
    return jax.tree.map(jnp.zeros_like, factors)


@jax.jit
def all_finite(tree: Factors) -> Bool[Array, ""]:
    """Return whether no array of the tree holds NaN or infinity."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


@functools.partial(jax.jit, donate_argnames="pending")
def add_gradients(pending: Factors, new: Factors) -> Factors:
    """Return the sum of two gradient trees; `pending` is given up."""
    return jax.tree.map(jnp.add, pending, new)


class OptimResult(NamedTuple):
    """What an optimizer step gives back.

    Attributes:
        factors, first_moment, second_moment: the state after; the one before where `ok` is False.
        grad_norm: scalar, global norm of the normalised gradients before clipping.
        ok: scalar, whether the norm and everything after the step is finite.
    """

    factors: Factors
    first_moment: Factors
    second_moment: Factors
    grad_norm: Float[Array, ""]
    ok: Bool[Array, ""]


@functools.partial(jax.jit, donate_argnames=("factors", "first_moment", "second_moment"))
def optim_pass(
    factors: Factors,
    first_moment: Factors,
    second_moment: Factors,
    gradients: Factors,
    step: Scalar,
    scalars: AdamScalars,
) -> OptimResult:
    """Return factors and moments after one step.

    The gradients are divided, their global norm is taken, they are clipped to it, and Adam with
    bias correction and decoupled weight decay moves the factors.

    Args:
        factors: the adapter's arrays; given up.
        first_moment: Adam's mean of gradients; given up.
        second_moment: Adam's mean of squared gradients; given up.
        gradients: summed, not yet divided.
        step: how many steps were applied before.
        scalars: this step's numbers.

    Source:
        Adam, arXiv:1412.6980, algorithm 1; decoupled decay: arXiv:1711.05101, algorithm 2.
    """
    gradients = jax.tree.map(lambda g: g / scalars.divisor, gradients)
    grad_norm = optax.tree.norm(gradients)
    clip = jnp.float32(scalars.grad_clip_norm)
    shrink = jnp.where((clip > 0) & (grad_norm > clip), clip / grad_norm, 1.0)
    gradients = jax.tree.map(lambda g: g * shrink, gradients)
    adam = optax.scale_by_adam(scalars.beta1, scalars.beta2, scalars.eps)
    before = optax.ScaleByAdamState(jnp.int32(step), first_moment, second_moment)
    direction, after = adam.update(gradients, before)
    assert isinstance(after, optax.ScaleByAdamState)

    def move(x: jax.Array, toward: jax.Array) -> jax.Array:
        return x - scalars.learning_rate * (toward + scalars.weight_decay * x)

    old = (factors, first_moment, second_moment)
    new = (jax.tree.map(move, factors, direction), after.mu, after.nu)
    ok = jnp.isfinite(grad_norm) & all_finite(new)
    kept = jax.tree.map(lambda now, was: jnp.where(ok, now, was), new, old)
    return OptimResult(kept[0], kept[1], kept[2], grad_norm, ok)
