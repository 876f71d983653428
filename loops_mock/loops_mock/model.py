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
from loops_mock.exact import Floats, draw_uniform
from loops_mock.products import Slices, bits_for, cut, matmul, multiply, transpose

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
            whole, bits = self.scale * gradient[site], bits_for(max(gradient[site].shape))
            slices = cut(whole, bits)
            gradients[site] = Factors(
                multiply(slices, transpose(cut(lora_b, bits))),
                multiply(transpose(cut(lora_a, bits)), slices),
            )
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
    """What a pass leaves for its backward pass.

    Attributes:
        x, z: cut, [2, N, width].
        u: [N, width].
        logits: [N, vocab].
    """

    x: Slices
    u: Floats
    z: Slices
    logits: Floats

    def part(self, start: int, end: int) -> Activations:
        """Return the activations of some of the rows."""
        x, u, z, logits = self
        return Activations(x[:, start:end], u[start:end], z[:, start:end], logits[start:end])


@final
@dataclass(frozen=True, slots=True)
class Policy:
    """A model with one adapter: its two matrices, whole and ready to be multiplied with.

    Attributes:
        model: the frozen weights.
        adapter: what changes them; None: nothing.
        mixer: M and its update, cut, [2, width, width].
        lm_head: U and its update, cut, [2, width, vocab].
    """

    model: Model
    adapter: Adapter | None
    mixer: Slices
    lm_head: Slices

    def forward(self, windows: Tokens) -> Activations:
        """Return the pass over rows of tokens [N, window], as `Model.windows` gives them."""
        x, bits = self.model.embed(windows), self.model.bits
        x_slices = cut(x, bits, exponent=_X_EXPONENT)
        u = multiply(x_slices, self.mixer)
        z_slices = cut(x + u / (1.0 + np.abs(u)), bits, exponent=_Z_EXPONENT)
        return Activations(x_slices, u, z_slices, multiply(z_slices, self.lm_head))

    def backward(self, activations: Activations, d_logits: Floats) -> dict[str, Floats]:
        """Return d loss / d matrix, by place of the adapter, given d loss / d logits."""
        assert self.adapter is not None  # the base alone is not trained
        x, u, z, _logits = activations
        d_slices = cut(d_logits, self.model.bits)
        gradient: dict[str, Floats] = {}
        if MIXER in self.adapter.factors:
            d_z = multiply(d_slices, transpose(self.lm_head))
            spread = 1.0 + np.abs(u)
            d_u = cut(d_z / (spread * spread), self.model.bits)
            gradient[MIXER] = multiply(transpose(x), d_u)
        if LM_HEAD in self.adapter.factors:
            gradient[LM_HEAD] = multiply(transpose(z), d_slices)
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
        bits: of the slices that its products are made of.
    """

    config: ModelConfig
    embeddings: Floats
    mixer: Floats
    lm_head: Floats
    bits: int

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
        bits = bits_for(max(width, vocab, config.max_position_embeddings))
        return cls(config, embeddings, mixer, lm_head, bits)

    def prepare(self, adapter: Adapter | None) -> Policy:
        """Return the model with an adapter, or the base alone."""
        changed = () if adapter is None else adapter.factors
        mixer, lm_head = self.mixer, self.lm_head
        if adapter is not None and MIXER in changed:
            mixer = mixer + adapter.update(MIXER)
        if adapter is not None and LM_HEAD in changed:
            lm_head = lm_head + adapter.update(LM_HEAD)
        return Policy(self, adapter, cut(mixer, self.bits), cut(lm_head, self.bits))

    def windows(self, tokens: Tokens) -> Tokens:
        """Return what each position sees, [N, window], its own token first, -1 before the start."""
        window = self.config.window
        padded = np.concatenate([np.full(window - 1, -1, dtype=np.int64), tokens])
        return padded[np.arange(window - 1, len(padded))[:, None] - np.arange(window)]

    def embed(self, windows: Tokens) -> Floats:
        """Return x, [N, width]."""
        seen = self.embeddings[np.arange(self.config.window), windows]  # [N, window, width]
        while seen.shape[1] > 1:  # by halves, as `total` does, over the middle axis
            half, odd = divmod(seen.shape[1], 2)
            sums = seen[:, :half] + seen[:, half : 2 * half]
            seen = np.concatenate([sums, seen[:, 2 * half :]], axis=1) if odd else sums
        return seen[:, 0]


def _as_float64(adapter: Adapter, site: str) -> tuple[Floats, Floats]:
    lora_a, lora_b = adapter.factors[site]
    return lora_a.astype(np.float64), lora_b.astype(np.float64)
