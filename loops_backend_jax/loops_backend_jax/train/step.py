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
from jaxtyping import Array, Bool, Float, Int

from loops_backend_jax.lora.adapter import Factors, Params
from loops_backend_jax.losses.inputs import LossInputs, LossScalars
from loops_backend_jax.losses.logprobs import (
    Head,
    chunk_tokens_for,
    make_head,
    target_logprobs,
    top_logprobs,
)
from loops_backend_jax.models.decoder import Decoder, apply_decoder, unembedding
from loops_backend_jax.train.batching import Batch

Scalar = float | jax.Array
"""A number that compiled functions take as an argument, so that another value compiles nothing."""

LossCompute = Callable[[jax.Array, LossInputs, LossScalars], jax.Array]
LossCombine = Callable[[jax.Array, LossScalars], jax.Array]


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """What a pass is compiled for, besides shapes; compares by value.

    Attributes:
        model: the module.
        compute: the loss's function of positions.
        combine: the loss's function of row sums, if it has one.
        rows_per_term: how many neighbouring rows make one term of the loss.
        flags: the loss's settings that are true or false; its numbers are traced.
        num_likeliest: how many of the likeliest tokens are named at each position.
        max_logits_bytes: bound of the logits alive at a time.
    """

    model: Decoder
    compute: LossCompute
    combine: LossCombine | None
    rows_per_term: int
    flags: tuple[tuple[str, bool], ...]
    num_likeliest: int
    max_logits_bytes: int


class PassResult(NamedTuple):
    """What a pass over one batch gives back.

    Attributes:
        loss_sum: scalar, the sum over all terms of the loss.
        logprobs: log-probability of each target, [rows, length] or with K; 0 where not scored.
        elementwise: what `compute` gave for each target; 0 where not active.
        likeliest_ids, likeliest_logprobs: the likeliest tokens of each position; None where they
            were not asked for.
    """

    loss_sum: Float[Array, ""]
    logprobs: Float[Array, "rows length *k"]
    elementwise: Float[Array, "rows length *k"]
    likeliest_ids: Int[Array, "rows length n"] | None
    likeliest_logprobs: Float[Array, "rows length n"] | None


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
    factors: Factors,
    params: Params,
    lora_scale: jax.Array,
    batch: Batch,
    numbers: Mapping[str, Scalar],
    plan: PassPlan,
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
    flat_hidden = hidden.reshape(num_tokens, -1)
    flat_targets = batch.targets.reshape(num_tokens, *batch.targets.shape[2:])
    chunk_tokens = chunk_tokens_for(plan.model.config.vocab_size, num_tokens, plan.max_logits_bytes)
    logprobs = target_logprobs(flat_hidden, head, flat_targets, chunk_tokens=chunk_tokens)
    logprobs = jnp.where(batch.scored, logprobs.reshape(batch.targets.shape), 0.0)
    settings: LossScalars = {**dict(plan.flags), **numbers}
    elementwise = jnp.where(batch.active, plan.compute(logprobs, batch.inputs, settings), 0.0)
    loss_sum = _sum_terms(elementwise, batch, settings, plan)
    ids, likeliest = _likeliest(flat_hidden, head, batch, chunk_tokens, plan)
    return loss_sum, PassResult(loss_sum, logprobs, elementwise, ids, likeliest)


def _sum_terms(
    elementwise: Float[Array, "rows length *k"],
    batch: Batch,
    settings: LossScalars,
    plan: PassPlan,
) -> Float[Array, ""]:
    """Return the loss: the sum over positions, or over what the loss makes of the sums of rows."""
    if plan.combine is None:
        return jnp.sum(elementwise)
    row_sums = elementwise.reshape(elementwise.shape[0], -1).sum(axis=1)
    terms = plan.combine(row_sums.reshape(-1, plan.rows_per_term), settings)
    is_real = batch.segment_ids[:: plan.rows_per_term, 0] > 0  # the others fill the batch up
    return jnp.sum(jnp.where(is_real, terms, 0.0))


def _likeliest(
    flat_hidden: Float[Array, "tokens width"],
    head: Head,
    batch: Batch,
    chunk_tokens: int,
    plan: PassPlan,
) -> tuple[Int[Array, "rows length n"] | None, Float[Array, "rows length n"] | None]:
    if not plan.num_likeliest:
        return None, None
    found = top_logprobs(flat_hidden, head, count=plan.num_likeliest, chunk_tokens=chunk_tokens)
    ids, logprobs = (x.reshape(*batch.tokens.shape, plan.num_likeliest) for x in found)
    return ids, logprobs


@functools.partial(jax.jit, static_argnames="plan")
def forward_pass(
    params: Params,
    factors: Factors,
    lora_scale: Scalar,
    batch: Batch,
    numbers: Mapping[str, Scalar],
    *,
    plan: PassPlan,
) -> PassResult:
    """Return loss and log-probabilities of one batch; `numbers` are the loss's settings."""
    return _loss(factors, params, jnp.float32(lora_scale), batch, numbers, plan)[1]


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="gradients")
def forward_backward_pass(
    params: Params,
    factors: Factors,
    lora_scale: Scalar,
    gradients: Factors,
    batch: Batch,
    numbers: Mapping[str, Scalar],
    *,
    plan: PassPlan,
) -> tuple[Factors, PassResult]:
    """Return `gradients` (given up) plus those of this batch's loss sum, and the result."""
    scale = jnp.float32(lora_scale)
    own, result = jax.grad(_loss, has_aux=True)(factors, params, scale, batch, numbers, plan)
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
