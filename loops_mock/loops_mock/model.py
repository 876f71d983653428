"""The mock's language model: small, frozen, with one adapter at two places and exact gradients.

With E, M and U drawn from the model's name, at each position t:

    x = sum over j of 2^-j E[token at t - j]           what stands there and just before it
    u = x (M + scale * A B)                            the place "mixer"
    z = x + u / (1 + |u|)
    logits = z (U + scale * A' B')                     the place "lm_head"

Rows do not see each other, so a row has the same bytes alone and among others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from loops_mock.config import LM_HEAD, MIXER, ModelConfig
from loops_mock.exact import Floats, draw_uniform, total
from loops_mock.products import Slices, cut, matmul, multiply

Tokens = NDArray[np.int64]

Gradient = Mapping[str, Floats]
"""d loss / d (the matrix of a place), by place, float64 [in, out]."""

_X_EXPONENT: Final = 1
"""|x| < 2: the entries of E are within 1, and the powers of two sum to less than 2."""

_Z_EXPONENT: Final = 2
"""|z| < 3."""


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

    def update(self, site: str) -> Floats:
        """Return what is added to the matrix of a place that the adapter changes, [in, out]."""
        lora_a, lora_b = _as_float64(self, site)
        return self.scale * matmul(lora_a, lora_b)

    def backward(self, gradient: Gradient) -> dict[str, Factors]:
        """Return d loss / d factors by place, float64, given d loss / d (the place's matrix)."""
        gradients: dict[str, Factors] = {}
        for site in self.factors:
            lora_a, lora_b = _as_float64(self, site)
            scaled = self.scale * gradient[site]
            gradients[site] = Factors(matmul(scaled, lora_b.T), matmul(lora_a.T, scaled))
        return gradients


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


class Activations(NamedTuple):
    """What a pass leaves for its backward pass: x, u and z [N, width], logits [N, vocab]."""

    x: Floats
    u: Floats
    z: Floats
    logits: Floats

    def part(self, start: int, end: int) -> Activations:
        """Return the activations of some of the rows."""
        return Activations(*(array[start:end] for array in self))


@final
@dataclass(frozen=True, slots=True)
class Policy:
    """A model with one adapter: its two matrices, whole and ready to be multiplied with.

    Attributes:
        model: the frozen weights.
        adapter: what changes them; None: nothing.
        mixer: M and its update, cut, [2, width, width].
        lm_head: U and its update, [width, vocab].
        lm_head_slices: the same, cut.
    """

    model: Model
    adapter: Adapter | None
    mixer: Slices
    lm_head: Floats
    lm_head_slices: Slices

    def forward(self, windows: Tokens) -> Activations:
        """Return the pass over rows of tokens [N, window], as `Model.windows` gives them."""
        width = self.model.config.hidden_size
        x = self.model.embed(windows)
        u = multiply(cut(x, width, exponent=_X_EXPONENT), self.mixer)
        z = x + u / (1.0 + np.abs(u))
        logits = multiply(cut(z, width, exponent=_Z_EXPONENT), self.lm_head_slices)
        return Activations(x, u, z, logits)

    def backward(self, activations: Activations, d_logits: Floats) -> dict[str, Floats]:
        """Return d loss / d matrix, by place of the adapter, given d loss / d logits."""
        assert self.adapter is not None  # the base alone is not trained
        x, u, z, _logits = activations
        positions, vocab = d_logits.shape
        inner = max(positions, vocab)
        d_slices = cut(d_logits, inner)
        gradient: dict[str, Floats] = {}
        if MIXER in self.adapter.factors:
            d_z = multiply(d_slices, cut(self.lm_head.T, inner))
            spread = 1.0 + np.abs(u)
            d_u = d_z / (spread * spread)
            gradient[MIXER] = multiply(
                cut(x.T, positions, exponent=_X_EXPONENT), cut(d_u, positions)
            )
        if LM_HEAD in self.adapter.factors:
            gradient[LM_HEAD] = multiply(cut(z.T, inner, exponent=_Z_EXPONENT), d_slices)
        return gradient


@final
@dataclass(frozen=True, slots=True)
class Model:
    """The frozen weights.

    Attributes:
        config: sizes and name.
        embeddings: [window, vocab + 1, width]: E with a last row of zeros, times 2^-j.
        mixer: M.
        lm_head: U.
    """

    config: ModelConfig
    embeddings: Floats
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
        padded = np.concatenate([embedding, np.zeros((1, width))])
        embeddings = np.stack([padded * 0.5**j for j in range(config.window)])
        return cls(config, embeddings, mixer, lm_head)

    def prepare(self, adapter: Adapter | None) -> Policy:
        """Return the model with an adapter, or the base alone."""
        width, changed = self.config.hidden_size, () if adapter is None else adapter.factors
        mixer, lm_head = self.mixer, self.lm_head
        if adapter is not None and MIXER in changed:
            mixer = mixer + adapter.update(MIXER)
        if adapter is not None and LM_HEAD in changed:
            lm_head = lm_head + adapter.update(LM_HEAD)
        return Policy(self, adapter, cut(mixer, width), lm_head, cut(lm_head, width))

    def windows(self, tokens: Tokens) -> Tokens:
        """Return what each position sees, [N, window], its own token first, -1 before the start."""
        window = self.config.window
        padded = np.concatenate([np.full(window - 1, -1, dtype=np.int64), tokens])
        return padded[np.arange(window - 1, len(padded))[:, None] - np.arange(window)]

    def embed(self, windows: Tokens) -> Floats:
        """Return x, [N, width]."""
        seen = self.embeddings[np.arange(self.config.window), windows]  # [N, window, width]
        return total(np.moveaxis(seen, 1, -1))


def _as_float64(adapter: Adapter, site: str) -> tuple[Floats, Floats]:
    lora_a, lora_b = adapter.factors[site]
    return lora_a.astype(np.float64), lora_b.astype(np.float64)
