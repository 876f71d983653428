"""A model as sampling runs it, and a count of the programs that took."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Literal, final

import jax

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.models.decoder import Decoder
from loops_backend_jax.sample.decode import Policy

ProgramName = Literal["read_piece", "rank_candidates", "decode_steps"]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Programs:
    """What compiled programs of one model have in common, and which were needed.

    Attributes:
        model: the module.
        settings: how the backend computes.
        max_seq_len: most positions of a sequence.
        needed: one entry for each program; each was compiled once.
    """

    model: Decoder
    settings: BackendSettings
    max_seq_len: int
    needed: set[Hashable] = dataclasses.field(default_factory=set[Hashable])

    def note(self, name: ProgramName, *sizes: int, policy: Policy) -> None:
        """Remember that a program was needed for these sizes and this shape of adapter."""
        adapter = tuple(x.shape for x in jax.tree.leaves(policy.factors))
        self.needed.add((name, sizes, adapter))
