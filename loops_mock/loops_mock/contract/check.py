"""Checks a whole program: what came back, and that a new trainer led to the same end agrees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from loops_core.errors import LoopsError
from loops_mock.contract.comparing import comparable
from loops_mock.contract.player import RANK, TIMEOUT_S, Asked, Player
from loops_mock.contract.rule import CheckFailed, expect
from loops_mock.strategies.program import OptimStep, Pass, Program, ProgramCall, Row

if TYPE_CHECKING:
    from loops_mock.contract.subject import Subject

_PROBES: Final = (Row((3, 9, 4), (9, 4, 17)), Row((5,), (6,)))
"""What a trainer is asked at the end."""


def check_program(
    subject: Subject,
    program: Program,
    *,
    sums_are_exact: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Return if a service does what it must, whatever the program asks.

    Args:
        subject: the service under test.
        program: what is asked.
        sums_are_exact: as `Player` has it.
        timeout_s: how long a result may take; under faults it takes longer.

    Raises:
        CheckFailed: it does not.
    """
    player = Player(subject, sums_are_exact=sums_are_exact, timeout_s=timeout_s)
    try:
        for call in program:
            player.play(call)
        finish(player)
    except LoopsError as error:
        raise CheckFailed("nothing should fail that was not to", {"raised": error}) from error
    finally:
        player.close()


def finish(player: Player) -> None:
    """Check everything that a player was told so far, and where its trainer stands now.

    A new trainer is led there by the fewest calls that matter. The two must agree in everything
    from then on: in weights, gradients that wait, moments and step.

    Raises:
        CheckFailed: what came back is not what must.
    """
    player.finish()
    if not player.oracle.state.history:
        return
    exact = player.sums_are_exact
    twin = Player(
        player.subject,
        sums_are_exact=exact,
        timeout_s=player.timeout_s,
        oracle=player.oracle.another(rank=RANK),
        seen=player.seen,
    )
    try:
        for call in player.oracle.state.history:
            for each in _split(call) if exact else [call]:
                twin.play(each)
        _check_last_step(twin)
        _probe(twin)
        _probe(player)
        if not exact:
            _check_sums(twin)
    finally:
        twin.close()


def _split(call: ProgramCall) -> list[ProgramCall]:
    """Return the calls of one row each that add up to a pass; of a pair, where rows are paired."""
    if not isinstance(call, Pass):
        return [call]
    size = 2 if call.loss_fn == "dpo" else 1
    parts = [call.rows[start : start + size] for start in range(0, len(call.rows), size)]
    return [replace(call, rows=rows) for rows in parts]


def _probe(player: Player) -> None:
    """Ask what tells weights, gradients and moments apart."""
    probe = _PROBES[:1]
    skip = any(each.skip_normalization for each in player.oracle.state.pending)
    asked = [
        player.submit(call)
        for call in (
            Pass(probe, backward=False),
            Pass(probe, skip_normalization=skip),
            OptimStep(),
            Pass(probe),
            OptimStep(),
            Pass(probe, backward=False),
        )
    ]
    for each in asked:
        player.read(each)


def _check_sums(player: Player) -> None:
    """Check that a batch has the same gradient in one call and in several."""
    norms: list[float] = []
    for calls in ([Pass(_PROBES)], [Pass((row,)) for row in _PROBES]):
        asked = [player.submit(call) for call in (*calls, OptimStep(learning_rate=0.0))]
        norms.append(player.read(asked[-1]).metrics["grad_norm"])
    # Sums of float32 in another order, over a handful of rows.
    near = math.isclose(*norms, rel_tol=1e-3, abs_tol=1e-6)
    expect(near, "gradients of several calls add up to those of one", grad_norms=norms)


def _check_last_step(player: Player) -> None:
    """Check that a step along a gradient changed what the weights compute."""
    asked = player.asked[-2:]
    calls = [each.call for each in asked]
    if len(calls) < 2 or not isinstance(calls[0], Pass) or not isinstance(calls[1], OptimStep):
        return
    metrics: Mapping[str, float] = player.read(asked[1]).metrics
    if calls[1].learning_rate > 0 and metrics["grad_norm"] > 1e-3:
        _check_moved(player, asked[0], calls[0])


def _check_moved(player: Player, before: Asked, call: Pass) -> None:
    first = player.read(before)
    after = player.read(player.submit(replace(call, backward=False)))
    moved = comparable(after) != comparable(first)
    expect(moved, "a step along a gradient changes the weights", loss=first.loss)
