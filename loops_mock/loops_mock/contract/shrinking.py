"""Makes a program that shows a failure smaller: fewer calls first, then simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Final

from loops_mock.strategies.program import Pass, Program, ProgramCall, Row, Sample
from loops_mock.strategies.programs import named_in_order

MOST_ATTEMPTS: Final = 150
"""How many smaller programs are tried, unless told."""

_SIMPLE: Final = (Row((0,), (0,)), Row((1, 2), (2, 3)))


def shrink(
    program: Program, still_fails: Callable[[Program], bool], *, most_attempts: int = MOST_ATTEMPTS
) -> Program:
    """Return the smallest program found that still fails; deterministic.

    Args:
        program: fails.
        still_fails: tells whether a smaller one does.
        most_attempts: how many are tried at most.
    """
    left = most_attempts
    tried: set[Program] = set()
    while True:
        for candidate in _smaller(program):
            if candidate in tried:
                continue
            if left <= 0:
                return program
            left -= 1
            tried.add(candidate)
            if still_fails(candidate):
                program = candidate
                break
        else:
            return program


def _smaller(program: Program) -> Iterator[Program]:
    """Return programs that are smaller by one change, the best first."""
    calls = program.calls
    for size in (len(calls) // 2, 1):
        for start in range(len(calls) - size, -1, -1) if size else ():
            yield Program(calls[:start] + calls[start + size :])
    yield named_in_order(calls)
    for number, call in enumerate(calls):
        for simpler in _simpler(call):
            yield Program((*calls[:number], simpler, *calls[number + 1 :]))


def _simpler(call: ProgramCall) -> Iterator[ProgramCall]:
    """Return simpler forms of a call: all of it as by default, then one field at a time."""
    if isinstance(call, Pass):
        yield from _simpler_pass(call)
    if isinstance(call, Sample) and call.prompt != (0,):
        yield replace(call, prompt=(0,))
    for each in fields(call):
        if each.default is not MISSING and getattr(call, each.name) != each.default:
            yield replace(call, **{each.name: each.default})


def _simpler_pass(call: Pass) -> Iterator[Pass]:
    size = 2 if call.loss_fn == "dpo" else 1
    if call.loss_fn == "cross_entropy":
        for row in _SIMPLE:
            if len(call.rows) > 1 or any(len(each.tokens) > len(row.tokens) for each in call.rows):
                yield replace(call, rows=(row,))
    if len(call.rows) > size:
        yield replace(call, rows=call.rows[:size])
        yield replace(call, rows=call.rows[size:])
    for number, row in enumerate(call.rows):
        for simpler in _simpler_row(row):
            yield replace(call, rows=(*call.rows[:number], simpler, *call.rows[number + 1 :]))


def _simpler_row(row: Row) -> Iterator[Row]:
    half = len(row.tokens) // 2
    if half:
        inputs = tuple((name, values[:half]) for name, values in row.inputs)
        yield Row(row.tokens[:half], row.targets[:half], inputs)
    names = [name for name, _ in row.inputs]
    if names == ["weights"]:
        yield replace(row, inputs=())
    tokens = (0,) * len(row.tokens)
    if row.tokens != tokens:
        yield replace(row, tokens=tokens)
