"""The stateful machine: any calls in any order on a service, each compared with the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from loops_mock.contract.check import finish
from loops_mock.contract.player import Player
from loops_mock.contract.search import MakesSubjects, beside_other_threads
from loops_mock.strategies.data import prompts, row_batches
from loops_mock.strategies.program import (
    REFUSALS,
    Cancel,
    Init,
    Load,
    OptimStep,
    Pass,
    ProgramCall,
    Publish,
    ReadAgain,
    Refusal,
    Refused,
    Repeat,
    Row,
    Sample,
    SaveState,
)
from loops_mock.strategies.programs import NAMES, optim_steps

MOST_CALLS = 10
"""The most calls of one example, so of a failure too."""

_NAMES = st.sampled_from(NAMES)
_BACK = st.integers(0, 2)
MachineT = TypeVar("MachineT", bound="ServiceMachine")


class ServiceMachine(RuleBasedStateMachine):
    """Makes any calls in any order on one trainer; results are read late, or when a rule says so.

    `make_machine` binds it to a service. Every rule can run at any time: where a call cannot work,
    the oracle knows how it fails.

    Attributes:
        subject_factory: makes the service under test for each example.
        losses: the losses that passes may ask for.
        sums_are_exact: whether a batch must leave the same bits in one call and in several.
    """

    subject_factory: ClassVar[MakesSubjects]
    losses: ClassVar[Sequence[str]] = ("cross_entropy",)
    sums_are_exact: ClassVar[bool] = False

    @initialize()
    def open_trainer(self) -> None:
        """Start with a new trainer."""
        self._opened = ExitStack()
        self._failed = False
        subject = self._opened.enter_context(type(self).subject_factory(seed=0))
        self.player = Player(subject, sums_are_exact=self.sums_are_exact)
        self._opened.callback(self.player.close)

    @rule(data=st.data(), backward=st.sampled_from([True, True, False]))
    def run_pass(self, data: st.DataObject, backward: bool) -> None:  # noqa: FBT001 - drawn by name
        """Run `forward_backward` or `forward`."""
        loss_fn = data.draw(st.sampled_from(list(self.losses)), label="loss_fn")
        rows: tuple[Row, ...] = data.draw(row_batches(loss_fn=loss_fn), label="rows")
        self._play(Pass(rows, backward=backward, loss_fn=loss_fn))

    @rule(rows=row_batches(max_size=1))
    def run_pass_without_normalisation(self, rows: tuple[Row, ...]) -> None:
        """Run a backward pass that may not be mixed with the others before one step."""
        self._play(Pass(rows, skip_normalization=True))

    @rule(call=optim_steps())
    def step(self, call: OptimStep) -> None:
        """Run `optim_step`."""
        self._play(call)

    @rule(rows=row_batches(max_size=2), call=optim_steps())
    def train(self, rows: tuple[Row, ...], call: OptimStep) -> None:
        """Run a pass and its step, so that examples get somewhere."""
        self._play(Pass(rows))
        self._play(call)

    @rule(name=_NAMES)
    def save(self, name: str) -> None:
        """Run `save_state`."""
        self._play(SaveState(name))

    @rule(name=_NAMES, optimizer=st.booleans())
    def load(self, name: str, optimizer: bool) -> None:  # noqa: FBT001 - drawn by name
        """Run one of the loads."""
        self._play(Load(name, optimizer))

    @rule(rank=st.integers(1, 2))
    def start_over(self, rank: int) -> None:
        """Run `init_trainer_server`."""
        self._play(Init(rank))

    @rule(name=_NAMES)
    def publish(self, name: str) -> None:
        """Publish the weights."""
        self._play(Publish(name))

    @rule(
        prompt=prompts(max_length=3),
        max_tokens=st.integers(1, 3),
        num_samples=st.integers(1, 2),
        temperature=st.sampled_from([1.0, 0.0, 2.0]),
        seed=st.integers(0, 3),
        of=st.none() | _NAMES,
    )
    def sample(
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        num_samples: int,
        temperature: float,
        seed: int,
        of: str | None,
    ) -> None:
        """Draw from what is live, or from what was published under a name."""
        self._play(Sample(prompt, max_tokens, num_samples, temperature, seed, of))

    @rule(back=_BACK)
    def repeat(self, back: int) -> None:
        """Send a call again under its key."""
        self._play(Repeat(back))

    @rule(back=_BACK)
    def read_twice(self, back: int) -> None:
        """Read a result, and read it again."""
        self._play(ReadAgain(back))

    @rule()
    def cancel(self) -> None:
        """Cancel what was submitted last."""
        self._play(Cancel())

    @rule(what=st.sampled_from(REFUSALS))
    def be_refused(self, what: Refusal) -> None:
        """Make a wrong call."""
        self._play(Refused(what))

    def teardown(self) -> None:
        """Read what was not read, check what it all has led to, and close."""
        if not hasattr(self, "player"):
            return
        with self._opened:
            if not self._failed:
                finish(self.player)

    def _play(self, call: ProgramCall) -> None:
        try:
            self.player.play(call)
        except BaseException:
            self._failed = True
            raise


def make_machine(
    subject_factory: MakesSubjects,
    *,
    losses: Sequence[str] = ("cross_entropy",),
    sums_are_exact: bool = False,
) -> type[ServiceMachine]:
    """Return the machine for one service.

    Args:
        subject_factory: makes the service under test for each example; `Target.subject` does.
        losses: the losses that passes may ask for.
        sums_are_exact: whether a batch must leave the same bits in one call and in several.
    """
    fields = {
        "subject_factory": staticmethod(subject_factory),
        "losses": tuple(losses),
        "sums_are_exact": sums_are_exact,
    }
    return type("BoundServiceMachine", (ServiceMachine,), fields)


def run_machine(
    machine: type[ServiceMachine], *, max_examples: int, seed: int | None = None
) -> None:
    """Run so many examples of a machine; a failure is shrunk, and raised.

    Args:
        machine: what `make_machine` returned.
        max_examples: how many examples to try.
        seed: of the examples; None = as Hypothesis chooses.

    Raises:
        CheckFailed: the service gave a wrong answer.
    """
    from hypothesis.core import seed as seeded

    bound = machine if seed is None else seeded(seed)(machine)
    with beside_other_threads():
        run_state_machine_as_test(
            bound,
            settings=settings(
                max_examples=max_examples,
                stateful_step_count=MOST_CALLS,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
