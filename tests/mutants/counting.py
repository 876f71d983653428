"""How many calls a case has, as the user who reads it counts them.

What a client does by itself belongs to the call that it is for: opening a run is one call, though
it makes a session, waits for the trainer and initialises it; an operation is one call, with the
polls of its result; publishing is one call, with the look at the paired sampler; a call that the
client repeats because an answer was lost is one call.
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
_LOST: Final = re.compile(r".* -> (Unreachable|Busy|ServerShutdown|Transport)Error: .*", re.DOTALL)
_INIT: Final = re.compile(r"init_trainer_server\(|POST \S*/init_trainer_server\b")
_OPENING: Final = re.compile(r"create_trainer\(|POST \S*/v1/loops/trainers\b")


def count_calls(asked: Sequence[str]) -> int:
    """Return how many calls these lines are, at least one.

    >>> count_calls(["create_session()", "create_trainer()", "init_trainer_server(rank=4)"])
    1
    >>> count_calls(["health()"])
    1
    >>> count_calls(["optim_step() -> UnreachableError: lost", "optim_step() -> accepted a"])
    1
    >>> count_calls(["create_trainer()", "optim_step()", "retrieve(a)", "optim_step()"])
    3
    """
    told = [line for line in asked if not _IMPLIED.match(line)]
    told = [
        line
        for line, after in zip(told, [*told[1:], ""], strict=False)
        if not _is_again(line, after)
    ]
    opened = [
        line
        for before, line in zip(["", *told], told, strict=False)
        if not (_INIT.match(line) and _OPENING.match(before))
    ]
    return max(1, len(opened))


def _is_again(line: str, after: str) -> bool:
    """Tell whether the answer to a call was lost, and the next call is the same one again."""
    return bool(_LOST.match(line)) and line.partition(" -> ")[0] == after.partition(" -> ")[0]
