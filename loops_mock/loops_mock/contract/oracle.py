"""What must be true of a program, call by call: counts, and which results equal which.

The oracle computes no model. It gives names to weights: two calls whose results must be equal get
the same name, and whoever plays the program compares what came back under one name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

from loops_mock.strategies.program import (
    Init,
    Load,
    OptimStep,
    Pass,
    ProgramCall,
    Publish,
    Sample,
    SaveState,
)

Operation: TypeAlias = Pass | OptimStep | SaveState | Load | Init | Publish
"""A call that becomes an operation of the trainer."""

_BASE = "base model"
_FRESH = "fresh moments"


@dataclass(frozen=True, slots=True)
class State:
    """What a trainer holds.

    Attributes:
        weights: the name of its weights.
        moments: the name of its optimizer's moments.
        step: optimizer steps applied.
        pending: the backward passes since the last step.
        history: the fewest calls that lead a new trainer here.
    """

    weights: Hashable
    moments: Hashable = _FRESH
    step: int = 0
    pending: tuple[Pass, ...] = ()
    history: tuple[ProgramCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come back from an operation.

    Attributes:
        error_class: the class of the error that it ends in; None = it succeeds.
        name: results with the same name are equal; None = equal to nothing.
        facts: numbers of the result by name.
    """

    error_class: str | None = None
    name: Hashable = None
    facts: Mapping[str, float] = field(default_factory=dict[str, float])


@final
class Oracle:
    """Follows one trainer through the operations that it accepts, in their order.

    Attributes:
        state: what the trainer holds once everything accepted has run.
        version: how often weights were published.
        saved: what each name was saved with.
        published: the name of the weights published under each name, and their version.
        live: the name of the weights published last.
    """

    def __init__(self, *, rank: int, sums_are_exact: bool = True) -> None:
        """Start with a new trainer.

        Args:
            rank: of its adapter.
            sums_are_exact: whether a batch leaves the same bits in one call and in several.
        """
        self._sums_are_exact = sums_are_exact
        self._names: dict[Hashable, int] = {}
        self._shown: dict[Hashable, Hashable] = {}
        self._inits: tuple[ProgramCall, ...] = ()
        self.version = 0
        self.saved: dict[str, State] = {}
        self.published: dict[str, tuple[Hashable, int]] = {}
        self.live: Hashable = _BASE
        self.state = State(self._fresh(rank))

    def another(self, *, rank: int) -> Oracle:
        """Return the oracle of one more trainer, which starts as this one did; names are shared."""
        other = Oracle(rank=rank, sums_are_exact=self._sums_are_exact)
        other._names, other._shown = self._names, self._shown
        other.state = State(other._fresh(rank))
        return other

    def shown(self, weights: Hashable) -> Hashable:
        """Return the name of what weights compute: a fresh adapter is the base model."""
        return self._shown.get(weights, weights)

    def accept(self, call: Operation) -> Expected:
        """Take an operation as accepted, and return what must come of it."""
        match call:
            case Pass():
                return self._pass(call)
            case OptimStep():
                return self._step(call)
            case SaveState():
                self.saved[call.name] = self.state
                return Expected()
            case Load():
                return self._load(call)
            case Init():
                self._inits = (*self._inits, call)
                self.state = State(self._fresh(call.rank), history=self._inits)
                return Expected(facts={"step": 0, "lora_rank": call.rank})
            case Publish():
                self.version += 1
                self.live = self.state.weights
                self.published[call.name] = (self.live, self.version)
                return Expected()

    def of_pass(self, call: Pass) -> Hashable:
        """Return the name of a pass's result over the present weights."""
        way = None if self._sums_are_exact else call.backward
        settings = (call.loss_fn, call.skip_normalization)
        return ("pass", self.shown(self.state.weights), call.rows, settings, way)

    def of_sample(self, call: Sample) -> Hashable:
        """Return the name of a sample's result: its weights, and all that decides the tokens."""
        weights = self.live if call.of is None else self.published[call.of][0]
        seed = None if call.temperature == 0 else (call.seed, call.temperature)
        settings = (call.prompt, call.max_tokens, call.num_samples, seed)
        return ("sample", self.shown(weights), *settings)

    def _fresh(self, rank: int) -> Hashable:
        weights = self._name("init", rank, len(self._inits))
        self._shown[weights] = _BASE
        return weights

    def _pass(self, call: Pass) -> Expected:
        before = self.state
        if call.backward:
            if any(each.skip_normalization != call.skip_normalization for each in before.pending):
                return Expected("UsageError")
            self.state = replace(
                before, pending=(*before.pending, call), history=(*before.history, call)
            )
        return Expected(name=self.of_pass(call))

    def _step(self, call: OptimStep) -> Expected:
        before = self.state
        if not before.pending:
            return Expected("UsageError")
        name = ("step", before.weights, before.moments, self._summed(before.pending), call)
        weights = self._name(*name)
        self._shown[weights] = self.shown(before.weights) if call.learning_rate == 0 else weights
        self.state = State(weights, weights, before.step + 1, (), (*before.history, call))
        active = sum(sum(row.active()) for each in before.pending for row in each.rows)
        facts = {
            "step": before.step + 1,
            "learning_rate": call.learning_rate,
            "active_tokens": active,
        }
        return Expected(name=("metrics", weights), facts=facts)

    def _load(self, call: Load) -> Expected:
        if call.name not in self.saved:
            return Expected("NotFoundError")
        saved = self.saved[call.name]
        if not call.optimizer:
            history = (*saved.history, SaveState("weights"), Load("weights", optimizer=False))
            saved = State(saved.weights, history=history)
        self.state = saved
        return Expected(facts={"step": saved.step})

    def _summed(self, pending: tuple[Pass, ...]) -> Hashable:
        """Return what decides the gradient: the rows, where it matters not in which call."""
        if not self._sums_are_exact:
            return pending
        return tuple(
            (each.loss_fn, each.skip_normalization, row) for each in pending for row in each.rows
        )

    def _name(self, *parts: Hashable) -> int:
        return self._names.setdefault(parts, len(self._names))
