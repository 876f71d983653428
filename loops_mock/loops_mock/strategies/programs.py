"""Strategies for programs of calls.

Any call may follow any other: what a call does where it cannot work is known, so a program shrinks
by losing calls. `programs` drops what could not succeed, unless failures are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

from hypothesis import strategies as st

from loops_mock.strategies.data import MAX_LENGTH, VOCAB_SIZE, prompts, row_batches
from loops_mock.strategies.defects import Defect
from loops_mock.strategies.program import (
    REFUSALS,
    Cancel,
    Init,
    Load,
    OptimStep,
    Pass,
    Program,
    ProgramCall,
    Publish,
    ReadAgain,
    Refused,
    Repeat,
    Sample,
    SaveState,
)
from loops_mock.strategies.refusals import refusal_field

NAMES = ("a", "b")
"""The names under which programs save: two, so that they are saved again and loaded."""


def passes(
    *,
    losses: Sequence[str] = ("cross_entropy",),
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
) -> st.SearchStrategy[Pass]:
    """Return a strategy for passes, most of them backward, some without normalisation."""

    def of_loss(loss_fn: str) -> st.SearchStrategy[Pass]:
        batch = row_batches(loss_fn=loss_fn, vocab_size=vocab_size, max_length=max_length)
        skip = st.sampled_from([False, False, False, True])
        return st.builds(
            Pass,
            rows=batch,
            backward=st.sampled_from([True, True, False]),
            loss_fn=st.just(loss_fn),
            skip_normalization=skip if loss_fn == "cross_entropy" else st.just(value=False),
        )

    return st.one_of(*(of_loss(loss_fn) for loss_fn in losses))


def optim_steps() -> st.SearchStrategy[OptimStep]:
    """Return a strategy for optimizer steps."""
    return st.builds(
        OptimStep,
        learning_rate=st.sampled_from([0.01, 0.1, 0.0]),
        beta1=st.sampled_from([0.9, 0.0]),
        beta2=st.sampled_from([0.95, 0.0]),
        weight_decay=st.sampled_from([0.0, 0.01]),
        grad_clip_norm=st.sampled_from([1.0, 0.0, 0.01]),
    )


def samples(*, vocab_size: int = VOCAB_SIZE) -> st.SearchStrategy[Sample]:
    """Return a strategy for samples of what is live, or of a published name."""
    return st.builds(
        Sample,
        prompt=prompts(vocab_size=vocab_size, max_length=3),
        max_tokens=st.integers(1, 3),
        num_samples=st.integers(1, 2),
        temperature=st.sampled_from([1.0, 0.0, 2.0]),
        seed=st.integers(0, 3),
        of=st.none() | st.sampled_from(NAMES),
    )


def program_calls(
    *,
    losses: Sequence[str] = ("cross_entropy",),
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
) -> st.SearchStrategy[ProgramCall]:
    """Return a strategy for any one call of a program."""
    names = st.sampled_from(NAMES)
    one = passes(losses=losses, vocab_size=vocab_size, max_length=max_length)
    return st.one_of(
        one,
        optim_steps(),
        st.builds(SaveState, names),
        st.builds(Load, names, st.booleans()),
        st.builds(Publish, names),
        samples(vocab_size=vocab_size),
        st.builds(Repeat, st.integers(0, 2)),
        st.builds(ReadAgain, st.integers(0, 2)),
        st.builds(Init, st.integers(1, 2)),
        st.just(Cancel()),
        st.builds(Refused, st.sampled_from(REFUSALS)),
    )


def _phrases(
    losses: Sequence[str], vocab_size: int
) -> st.SearchStrategy[tuple[ProgramCall | None, ...]]:
    """Return a strategy for calls that belong together; each of them may be left out (None)."""
    names = st.sampled_from(NAMES)
    one = passes(losses=losses, vocab_size=vocab_size)
    forward = one.map(lambda call: replace(call, backward=False))
    step = (one.map(lambda call: replace(call, backward=True)), optim_steps())
    first, load = st.builds(SaveState), st.builds(Load, st.just(NAMES[0]), st.booleans())
    phrases: list[tuple[st.SearchStrategy[ProgramCall], ...]] = [
        step,
        (*step, first, *step, load, *step),
        (st.builds(SaveState, names), *step, st.builds(Load, names, st.booleans())),
        (st.builds(Publish, names), samples(vocab_size=vocab_size)),
        (one, st.builds(Repeat, st.integers(0, 2)), optim_steps()),
        (forward, st.just(Cancel())),
        (st.builds(Init, st.integers(1, 2)), *step),
        (st.builds(ReadAgain, st.integers(0, 2)),),
    ]
    any_call = program_calls(losses=losses, vocab_size=vocab_size)
    return st.one_of(
        st.tuples(any_call),
        *(st.tuples(*map(_mostly, phrase)) for phrase in phrases),
    )


def _mostly(call: st.SearchStrategy[ProgramCall]) -> st.SearchStrategy[ProgramCall | None]:
    """Return the call more often than None, which it shrinks to."""
    return st.sampled_from([False, True, True, True]).flatmap(
        lambda is_made: call if is_made else st.none()
    )


@overload
def programs(
    *,
    max_calls: int = 10,
    losses: Sequence[str] = ("cross_entropy",),
    vocab_size: int = VOCAB_SIZE,
    failures: bool = False,
    invalid: Literal[False] = False,
) -> st.SearchStrategy[Program]: ...


@overload
def programs(
    *,
    max_calls: int = 10,
    losses: Sequence[str] = ("cross_entropy",),
    vocab_size: int = VOCAB_SIZE,
    failures: bool = False,
    invalid: Literal[True],
) -> st.SearchStrategy[Defect[Program]]: ...


def programs(
    *,
    max_calls: int = 10,
    losses: Sequence[str] = ("cross_entropy",),
    vocab_size: int = VOCAB_SIZE,
    failures: bool = False,
    invalid: bool = False,
) -> st.SearchStrategy[Program] | st.SearchStrategy[Defect[Program]]:
    """Return a strategy for programs of calls.

    Args:
        max_calls: most calls of a program.
        losses: the losses that passes may ask for.
        vocab_size: token ids are below this.
        failures: also make calls that fail: refused ones, and operations that end in an error.
        invalid: draw a program whose last call is refused, as a `Defect`.
    """
    phrases = st.lists(_phrases(losses, vocab_size), max_size=max(1, max_calls // 2))
    drawn = phrases.map(lambda some: [call for one in some for call in one if call is not None])
    if invalid:
        return st.builds(_with_defect, drawn, st.sampled_from(REFUSALS), st.just(max_calls))
    if failures:
        return drawn.map(lambda calls: named_in_order(calls[:max_calls]))
    return drawn.map(lambda calls: named_in_order(without_failures(calls)[:max_calls]))


def named_in_order(calls: Sequence[ProgramCall]) -> Program:
    """Return a program whose first name is the first of `NAMES`, and so on."""
    used = {
        name: None
        for call in calls
        for name in (getattr(call, "name", None), getattr(call, "of", None))
        if name is not None
    }
    new = dict(zip(used, NAMES, strict=False))
    renamed: list[ProgramCall] = []
    for call in calls:
        if isinstance(call, SaveState | Load | Publish):
            renamed.append(replace(call, name=new[call.name]))
        elif isinstance(call, Sample) and call.of is not None:
            renamed.append(replace(call, of=new[call.of]))
        else:
            renamed.append(call)
    return Program(tuple(renamed))


def without_failures(calls: Sequence[ProgramCall]) -> list[ProgramCall]:
    """Return the calls but for those that would be refused, or fail, or have nothing to act on."""
    seen = _Seen()
    return [call for call in calls if seen.accepts(call)]


def _with_defect(calls: list[ProgramCall], what: str, max_calls: int) -> Defect[Program]:
    refused = next(Refused(each) for each in REFUSALS if each == what)
    kept = without_failures(calls)[: max_calls - 1]
    if refused.what == "a used key with another body" and not any(
        isinstance(call, Pass | OptimStep) for call in kept
    ):
        refused = Refused()
    program = named_in_order([*kept, refused])
    return Defect(refused.what, refusal_field(refused.what), program)


@dataclass(slots=True)
class _Seen:
    """What the calls so far have made possible; `pending` is None where no gradients wait."""

    pending: bool | None = None
    saved: dict[str, bool | None] = field(default_factory=dict[str, "bool | None"])
    published: set[str] = field(default_factory=set[str])
    keyed: int = 0
    may_cancel: bool = False
    operations: int = 0

    def accepts(self, call: ProgramCall) -> bool:
        """Tell whether a call can succeed here, and if so take it as made."""
        match call:
            case Refused():
                return False
            case Sample():
                return call.of is None or call.of in self.published
            case Repeat():
                self.may_cancel = False
                return call.back < self.keyed
            case ReadAgain():
                return call.back < self.operations
            case Cancel():
                ok, self.may_cancel = self.may_cancel, False
                return ok
            case _:
                return self._accepts_operation(call)

    def _accepts_operation(
        self, call: Pass | OptimStep | SaveState | Load | Init | Publish
    ) -> bool:
        match call:
            case Pass(backward=True):
                if self.pending not in (None, call.skip_normalization):
                    return False
                self.pending = call.skip_normalization
            case OptimStep():
                if self.pending is None:
                    return False
                self.pending = None
            case SaveState():
                self.saved[call.name] = self.pending
            case Load():
                if call.name not in self.saved:
                    return False
                self.pending = self.saved[call.name] if call.optimizer else None
            case Init():
                self.pending = None
            case Publish():
                self.published.add(call.name)
            case Pass():
                pass
        self.keyed += isinstance(call, Pass | OptimStep)
        # It may run all the same, so nothing that follows may depend on it.
        self.may_cancel = isinstance(call, Pass) and not call.backward
        self.operations += 1
        return True
