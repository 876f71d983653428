"""How long things take in a world."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from typing import Final, final

from loops_core.errors import UsageError

_FIELDS: Final = {
    "init_trainer_server": "init_s",
    "forward": "forward_s",
    "forward_backward": "forward_backward_s",
    "optim_step": "optim_step_s",
    "save_state": "save_s",
    "save_weights_for_sampler": "save_s",
    "load_state": "load_s",
    "load_state_with_optimizer": "load_s",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Mean seconds of virtual time; each is drawn anew, up to `spread` of it away.

    Attributes:
        latency_s: a message from client to service, or back.
        init_s: making a fresh adapter.
        forward_s: a `forward`.
        forward_backward_s: a `forward_backward`.
        optim_step_s: an `optim_step`.
        save_s: saving a state or sampler weights.
        load_s: loading a state.
        token_s: a token of each sequence that a sampler has under way.
        deploy_s: from the end of a publish until its version answers.
        spread: how far a draw may lie from the mean, as a share of it.
    """

    latency_s: float = 0.005
    init_s: float = 1.0
    forward_s: float = 0.25
    forward_backward_s: float = 0.5
    optim_step_s: float = 0.2
    save_s: float = 2.0
    load_s: float = 2.0
    token_s: float = 0.02
    deploy_s: float = 0.5
    spread: float = 0.2

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one is negative or no number, or `spread` is above 1.
        """
        for field in fields(self):
            value: float = getattr(self, field.name)
            if not math.isfinite(value) or value < 0:
                expected = f"{field.name} is {value}: expected a number from 0"
                raise UsageError(expected, field=field.name)
        if self.spread > 1:
            raise UsageError(f"spread is {self.spread}: expected at most 1", field="spread")

    def of(self, kind: str) -> float:
        """Return the mean of an operation's kind."""
        seconds: float = getattr(self, _FIELDS[kind])
        return seconds

    def draw(self, mean_s: float, rng: random.Random) -> float:
        """Return a duration near the mean."""
        return mean_s * (1.0 + self.spread * (2.0 * rng.random() - 1.0))
