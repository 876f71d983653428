"""The dense Qwen3 family: each head's queries and keys are normed before they are rotated.

Source:
    Qwen3, arXiv:2505.09388, section 2.
"""

from __future__ import annotations

from typing import final

from loops_backend_jax.models.layers import PreNormBlock


@final
class Qwen3Block(PreNormBlock):
    """The block with normed queries and keys."""

    qk_norm: bool = True
