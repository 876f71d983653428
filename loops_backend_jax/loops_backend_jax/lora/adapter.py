"""The low-rank adapter: its targets, its initial values, the update it adds, merging.

An adapter's arrays ("factors") are a tree that mirrors the model's modules:

    {"layers": {"self_attn": {"q_proj": {"lora_a": [layers, in, rank],
                                         "lora_b": [layers, rank, out]}}},
     "lm_head": {"lora_a": [in, rank], "lora_b": [rank, out]}}

The model reads it as the collection `lora`; a module that has no entry adds nothing. What depends
on rank and alpha together is in `AdapterSpec.scale`, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.tree import (
    ArrayTree,
    copy_tree,
    get_array,
    get_branch,
    put_array,
)
from loops_core.errors import UsageError

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_TARGETS = ("gate_proj", "up_proj", "down_proj")
UNEMBEDDING_TARGET = "lm_head"
LINEAR_TARGETS = ATTENTION_TARGETS + MLP_TARGETS
ALL_TARGETS = (*LINEAR_TARGETS, UNEMBEDDING_TARGET)

Factors = ArrayTree
"""An adapter's arrays, float32, as the module's docstring shows them."""

Params = ArrayTree
"""A model's frozen arrays."""


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """What an adapter is, apart from its values.

    Attributes:
        rank: inner width of the update.
        alpha: numerator of the scale.
        targets: names of the changed modules, in the order of `ALL_TARGETS`.
    """

    rank: int
    alpha: float = 32.0
    targets: tuple[str, ...] = LINEAR_TARGETS

    @property
    def scale(self) -> float:
        """The factor of the low-rank product: alpha / rank."""
        return self.alpha / self.rank


def make_adapter_spec(
    *, rank: int, alpha: float = 32.0, targets: tuple[str, ...] = LINEAR_TARGETS
) -> AdapterSpec:
    """Return a checked spec.

    Raises:
        UsageError: a rank under 1, an alpha that is not a finite number, or an unknown target.
    """
    if isinstance(rank, bool) or rank < 1:
        raise UsageError(
            f"rank is {rank}; expected an integer from 1; 8 to 64 are usual", field="rank"
        )
    if not np.isfinite(alpha):
        raise UsageError(f"alpha is {alpha}; expected a finite number; 32 is usual", field="alpha")
    unknown = sorted(set(targets) - set(ALL_TARGETS))
    if unknown or not targets:
        raise UsageError(
            f"targets are {targets!r}; expected at least one of {', '.join(ALL_TARGETS)}",
            field="targets",
        )
    ordered = tuple(name for name in ALL_TARGETS if name in targets)
    return AdapterSpec(rank=rank, alpha=float(alpha), targets=ordered)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """One place that an adapter can change.

    Attributes:
        path: keys into the trees of factors and params.
        fan_in, fan_out: widths of the frozen matrix.
        num_layers: how many of it are stacked; 0 for a matrix that stands alone.
    """

    path: tuple[str, ...]
    fan_in: int
    fan_out: int
    num_layers: int

    def module_names(self) -> tuple[str, ...]:
        """Return the names of the modules as Hugging Face models call them, one a layer."""
        if not self.num_layers:
            return (".".join(self.path),)
        inside = ".".join(self.path[1:])
        return tuple(f"model.layers.{layer}.{inside}" for layer in range(self.num_layers))


def adapter_sites(config: ModelConfig, targets: tuple[str, ...]) -> tuple[Site, ...]:
    """Return the places that `targets` name in this model, in a fixed order."""
    width, heads, kv_heads = config.model_width, config.num_heads, config.num_kv_heads
    widths = {
        "q_proj": (width, heads * config.head_size),
        "k_proj": (width, kv_heads * config.head_size),
        "v_proj": (width, kv_heads * config.head_size),
        "o_proj": (heads * config.head_size, width),
        "gate_proj": (width, config.ff_width),
        "up_proj": (width, config.ff_width),
        "down_proj": (config.ff_width, width),
    }
    sites: list[Site] = []
    for name in targets:
        if name == UNEMBEDDING_TARGET:
            sites.append(Site((name,), width, config.vocab_size, 0))
        else:
            part = "self_attn" if name in ATTENTION_TARGETS else "mlp"
            sites.append(Site(("layers", part, name), *widths[name], config.num_layers))
    return tuple(sites)


def init_factors(config: ModelConfig, spec: AdapterSpec, *, seed: int) -> Factors:
    """Return a fresh adapter: A Kaiming-uniform, B zero, so that it changes nothing yet.

    Each module draws from a key made of the seed and its own name, so its values do not depend on
    which other modules are adapted, nor on their order.

    Args:
        config: the model's shape.
        spec: rank and targets.
        seed: any integer; the same seed gives the same bytes.

    Source:
        LoRA, arXiv:2106.09685, section 4.1; A uniform in ±1/sqrt(in), as He initialisation with
        a = sqrt(5) gives (arXiv:1502.01852).
    """
    factors: Factors = {}
    for site in adapter_sites(config, spec.targets):
        modules = [_uniform_a(site, spec.rank, seed, name) for name in site.module_names()]
        lora_a = np.stack(modules) if site.num_layers else modules[0]
        lora_b = np.zeros((*lora_a.shape[:-2], spec.rank, site.fan_out), np.float32)
        put_array(factors, (*site.path, "lora_a"), jnp.asarray(lora_a))
        put_array(factors, (*site.path, "lora_b"), jnp.asarray(lora_b))
    return factors


def _uniform_a(site: Site, rank: int, seed: int, name: str) -> Float[np.ndarray, "inp rank"]:
    """Return one module's A from Philox's raw words, whose sequence NumPy promises to keep."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(
        site.fan_in * rank
    )
    unit = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)  # [0, 1)
    bound = np.float32(site.fan_in**-0.5)
    return ((2 * unit - 1) * bound).reshape(site.fan_in, rank)


def lora_delta(
    x: Float[Array, "*batch inp"],
    lora_a: Float[Array, "inp rank"],
    lora_b: Float[Array, "rank out"],
    *,
    scale: float | Float[Array, ""],
) -> Float[Array, "*batch out"]:
    """Return the low-rank update to add to the frozen layer's output, float32.

    Args:
        x: activations, [..., in].
        lora_a: down-projection, [in, rank].
        lora_b: up-projection, [rank, out]; all zeros on a fresh adapter.
        scale: `AdapterSpec.scale`.

    Source:
        LoRA, arXiv:2106.09685, section 4.1.
    """
    return ((x.astype(lora_a.dtype) @ lora_a) @ lora_b) * scale


def merge_factors(
    params: Params, factors: Factors, *, spec: AdapterSpec, config: ModelConfig
) -> Params:
    """Return params of a model without adapter that computes what base plus adapter does.

    A tied model whose unembedding is adapted gets an unembedding of its own under `lm_head`.
    """
    merged = copy_tree(params)
    for site in adapter_sites(config, spec.targets):
        pair = get_branch(factors, site.path)
        delta = get_array(pair, ("lora_a",)) @ get_array(pair, ("lora_b",)) * spec.scale
        if site.path == (UNEMBEDDING_TARGET,):
            own = UNEMBEDDING_TARGET if UNEMBEDDING_TARGET in merged else "embed_tokens"
            table = _add(get_array(merged, (own, "embedding")), delta.T)
            put_array(merged, (UNEMBEDDING_TARGET, "embedding"), table)
        else:
            kernel = (*site.path, "kernel")
            put_array(merged, kernel, _add(get_array(merged, kernel), delta))
    return merged


def _add(weight: jax.Array, delta: jax.Array) -> jax.Array:
    return (weight.astype(jnp.float32) + delta).astype(weight.dtype)
