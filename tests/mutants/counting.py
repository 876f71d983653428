"""How many calls a case has, as the user who reads it counts them.

What a client does by itself belongs to the call that it is for: opening a run is one call, though
it makes a session, waits for the trainer and initialises it; an operation is one call, with the
polls of its result; publishing is one call, with the look at the paired sampler.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_IMPLIED: Final = re.compile(
    r"(create_session|health|retrieve|poll|list_models|sampler_policy_version)\("
    r"|create_sampler\(\)"
    r"|POST \S*/v1/loops/sessions\b"
    r"|GET \S*/(health\b|operations/)"
)
_INIT: Final = re.compile(r"init_trainer_server\(|POST \S*/init_trainer_server\b")
_OPENING: Final = re.compile(r"create_trainer\(|POST \S*/v1/loops/trainers\b")


def count_calls(asked: Sequence[str]) -> int:
    """Return how many calls these lines are, at least one.

    >>> count_calls(["create_session()", "create_trainer()", "init_trainer_server(rank=4)"])
    1
    >>> count_calls(["create_trainer()", "optim_step()", "retrieve(a)", "optim_step()"])
    3
    """
    told = [line for line in asked if not _IMPLIED.match(line)]
    opened = [
        line
        for before, line in zip(["", *told], told, strict=False)
        if not (_INIT.match(line) and _OPENING.match(before))
    ]
    return max(1, len(opened))
