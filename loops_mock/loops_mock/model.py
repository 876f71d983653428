"""The mock's language model: small, frozen, with one adapter at two places and exact gradients.

With E, M and U drawn from the model's name, at each position t:

    x = sum over j of 2^-j E[token at t - j]           what stands there and just before it
    u = x M + scale * (x A) B                          the place "mixer"
    z = x + u / (1 + |u|)
    logits = z U + scale * (z A') B'                   the place "lm_head"

Rows do not see each other, so a row has the same bytes alone and among others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from loops_mock.config import LM_HEAD, MIXER, ModelConfig
from loops_mock.exact import Floats, draw_uniform, matmul

Tokens = NDArray[np.int64]


class Factors(NamedTuple):
    """The two matrices of one place: `lora_a` [in, rank], `lora_b` [rank, out]."""

    lora_a: NDArray[np.floating]
    lora_b: NDArray[np.floating]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A low-rank update.

    Attributes:
        rank: inner width.
        alpha: numerator of the scale.
        factors: by place; float32 when trained.
    """

    rank: int
    alpha: float
    factors: Mapping[str, Factors]

    @property
    def scale(self) -> float:
        """The factor of the low-rank product: alpha / rank."""
        return self.alpha / self.rank


def make_adapter(config: ModelConfig, *, rank: int, alpha: float, seed: int) -> Adapter:
    """Return a fresh adapter: A uniform in ±1/sqrt(in) from the seed, B zero: it changes nothing.

    Source:
        LoRA, arXiv:2106.09685, section 4.1; the bound is that of arXiv:1502.01852 with a = sqrt(5).
    """
    factors: dict[str, Factors] = {}
    for site, (fan_in, fan_out) in config.sites().items():
        uniform = draw_uniform(f"loops-mock/lora/{seed}/{site}", fan_in, rank)
        lora_a = (2.0 * uniform - 1.0) / np.sqrt(fan_in)
        factors[site] = Factors(
            lora_a.astype(np.float32), np.zeros((rank, fan_out), dtype=np.float32)
        )
    return Adapter(rank=rank, alpha=alpha, factors=factors)


@final
@dataclass(frozen=True, slots=True)
class Model:
    """The frozen weights: `embedding` [vocab + 1, width], its last row zero; `mixer`; `lm_head`."""

    config: ModelConfig
    embedding: Floats
    mixer: Floats
    lm_head: Floats

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """Return the weights, which are a function of the config's name and sizes."""
        width, vocab = config.hidden_size, config.vocab_size
        key = f"loops-mock/model/{config.name}"
        embedding = 2.0 * draw_uniform(f"{key}/embedding", vocab, width) - 1.0
        mixer = (2.0 * draw_uniform(f"{key}/mixer", width, width) - 1.0) / np.sqrt(width)
        lm_head = (2.0 * draw_uniform(f"{key}/lm_head", width, vocab) - 1.0) / np.sqrt(width)
        return cls(config, np.concatenate([embedding, np.zeros((1, width))]), mixer, lm_head)

    def windows(self, tokens: Tokens) -> Tokens:
        """Return what each position sees, [N, window], its own token first, -1 before the start."""
        padded = np.concatenate([np.full(self.config.window - 1, -1, dtype=np.int64), tokens])
        view = np.lib.stride_tricks.sliding_window_view(padded, self.config.window)
        return view[:, ::-1]

    def forward(self, windows: Tokens, adapter: Adapter | None) -> Activations:
        """Return the pass over rows of tokens [N, window], as `windows` gives them."""
        x = np.zeros((len(windows), self.config.hidden_size))
        for j in range(self.config.window):
            x += 2.0**-j * self.embedding[windows[:, j]]
        u = matmul(x, self.mixer) + _update(x, adapter, MIXER)
        z = x + u / (1.0 + np.abs(u))
        logits = matmul(z, self.lm_head) + _update(z, adapter, LM_HEAD)
        return Activations(x, u, z, logits)

    def backward(
        self, activations: Activations, d_logits: Floats, adapter: Adapter
    ) -> dict[str, Factors]:
        """Return d loss / d factors by place, float64, given d loss / d logits [N, vocab]."""
        x, u, z, _logits = activations
        gradients: dict[str, Factors] = {}
        d_z = matmul(d_logits, self.lm_head.T)
        if LM_HEAD in adapter.factors:
            gradients[LM_HEAD], d_input = _update_backward(z, d_logits, adapter, LM_HEAD)
            d_z = d_z + d_input
        d_u = d_z / ((1.0 + np.abs(u)) * (1.0 + np.abs(u)))
        if MIXER in adapter.factors:
            gradients[MIXER], _ = _update_backward(x, d_u, adapter, MIXER)
        return {site: gradients[site] for site in adapter.factors}


class Activations(NamedTuple):
    """What a pass leaves for its backward pass: x, u and z [N, width], logits [N, vocab]."""

    x: Floats
    u: Floats
    z: Floats
    logits: Floats


def _update(x: Floats, adapter: Adapter | None, site: str) -> Floats | float:
    if adapter is None or site not in adapter.factors:
        return 0.0
    lora_a, lora_b = _as_float64(adapter, site)
    return adapter.scale * matmul(matmul(x, lora_a), lora_b)


def _update_backward(
    x: Floats, d_out: Floats, adapter: Adapter, site: str
) -> tuple[Factors, Floats]:
    """Return d loss / d (A, B), and d loss / d x through the update."""
    lora_a, lora_b = _as_float64(adapter, site)
    scaled = adapter.scale * d_out
    d_inner = matmul(scaled, lora_b.T)
    gradient = Factors(matmul(x.T, d_inner), matmul(matmul(x, lora_a).T, scaled))
    return gradient, matmul(d_inner, lora_a.T)


def _as_float64(adapter: Adapter, site: str) -> tuple[Floats, Floats]:
    lora_a, lora_b = adapter.factors[site]
    return lora_a.astype(np.float64), lora_b.astype(np.float64)
