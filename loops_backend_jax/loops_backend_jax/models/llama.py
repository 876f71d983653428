"""The Llama family: Llama 2 and 3, SmolLM2, and whatever else says LlamaForCausalLM.

Source:
    Llama 2, arXiv:2307.09288; Llama 3, arXiv:2407.21783.
"""

from __future__ import annotations

from typing import final

from loops_backend_jax.models.layers import PreNormBlock


@final
class LlamaBlock(PreNormBlock):
    """The plain block: no norms on queries and keys."""
