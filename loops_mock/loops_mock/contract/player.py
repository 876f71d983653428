"""Plays a program on a service and compares everything that comes back with the oracle."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from loops_core.errors import LoopsError, OperationCancelledError, RemoteOpError
from loops_core.types.checkpoint import CheckpointAddress, CheckpointTarget
from loops_core.types.training import AdamParams, ForwardBackwardOutput
from loops_mock.contract.comparing import check_output, check_samples, comparable
from loops_mock.contract.oracle import Expected, Operation, Oracle, State
from loops_mock.contract.rule import CheckFailed, expect, expect_equal
from loops_mock.strategies.program import (
    Cancel,
    Init,
    Load,
    OptimStep,
    Pass,
    ProgramCall,
    Publish,
    ReadAgain,
    Refused,
    Repeat,
    Row,
    Sample,
    SaveState,
    say,
)
from loops_mock.strategies.refusals import make_wrong_call, refusal_field

if TYPE_CHECKING:
    from loops_core.client.sampling import SamplingClient
    from loops_core.client.training import TrainingClient
    from loops_mock.contract.subject import Subject

RANK: Final = 2
_SEED: Final = 7
TIMEOUT_S: Final = 60.0
"""How long a result may take, unless told."""


@dataclass(slots=True)
class Asked:
    """An operation that was accepted.

    Attributes:
        call: what was asked.
        future: of its result.
        expected: what must come back.
        before: the trainer's state before it.
        key: its idempotency key, where the call has one.
        was_read: whether the result was looked at.
    """

    call: Operation
    future: Any
    expected: Expected
    before: State
    key: str | None = None
    was_read: bool = False


@final
class Player:
    """Plays calls on one trainer of a service.

    Attributes:
        subject: the service under test.
        oracle: what must be true.
        seen: results by name.
        asked: the operations that were accepted.
        sums_are_exact: as the oracle has it.
        timeout_s: how long a result may take.
        trainer: whom the calls go to.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        sums_are_exact: bool = False,
        timeout_s: float = TIMEOUT_S,
        oracle: Oracle | None = None,
        seen: dict[Hashable, object] | None = None,
    ) -> None:
        """Open a new trainer.

        Args:
            subject: the service under test.
            sums_are_exact: whether the service promises that a batch leaves the same bits in one
                call and in several; else they need to be equal call by call.
            timeout_s: how long a result may take.
            oracle: what must be true of the trainer; None = of a new one.
            seen: results by name, shared by trainers that must agree.
        """
        self.subject = subject
        self.sums_are_exact = sums_are_exact
        self.timeout_s = timeout_s
        self.oracle = oracle or Oracle(rank=RANK, sums_are_exact=sums_are_exact)
        self.seen: dict[Hashable, object] = {} if seen is None else seen
        self.asked: list[Asked] = []
        self._may_cancel = False
        self._samplers: dict[str | None, SamplingClient] = {}
        self.trainer: TrainingClient = subject.trainer(rank=RANK, seed=_SEED)

    def play(self, call: ProgramCall) -> None:
        """Make one call.

        Raises:
            CheckFailed: what came back is not what must.
        """
        match call:
            case Repeat():
                self._repeat(call)
            case Cancel():
                self._cancel()
            case ReadAgain():
                if call.back < len(self.asked):
                    asked = self.asked[-1 - call.back]
                    self.read(asked)
                    self.read(asked)
            case Refused():
                self._refuse(call)
            case Sample():
                self._sample(call)
            case _:
                self.submit(call)

    def finish(self) -> None:
        """Read all results, the newest first, and check what the service counts.

        Raises:
            CheckFailed: what came back is not what must.
        """
        for asked in reversed(self.asked):
            self.read(asked)
        expect_equal(self.trainer.policy_version, self.oracle.version, "policy_version")
        listed = {(each.target, each.checkpoint_id) for each in self.trainer.list_checkpoints()}
        made = {(CheckpointTarget.TRAINER, name) for name in self.oracle.saved}
        made |= {(CheckpointTarget.SAMPLER, name) for name in self.oracle.published}
        expect_equal(listed, made, "the checkpoints that are listed")

    def close(self) -> None:
        """Close the trainer's client."""
        for sampler in self._samplers.values():
            sampler.close()
        self.trainer.close()

    def submit(self, call: Operation) -> Asked:
        """Hand an operation over and return it, its result not read yet.

        Raises:
            CheckFailed: it is refused.
        """
        before, key = self.oracle.state, None
        if isinstance(call, Pass | OptimStep):
            key = f"program-{self.trainer.run_id}-{len(self.asked)}"
        future = _taken(call, lambda: self._send(call, key))
        asked = Asked(call, future, self.oracle.accept(call), before, key)
        self.asked.append(asked)
        self._may_cancel = key is not None
        return asked

    def _send(self, call: Operation, key: str | None) -> Any:
        trainer = self.trainer
        match call:
            case Pass():
                config = {"skip_token_normalization": True} if call.skip_normalization else None
                act = trainer.forward_backward if call.backward else trainer.forward
                data = [row.datum() for row in call.rows]
                return act(data, call.loss_fn, config, idempotency_key=key)
            case OptimStep():
                fields = {name: getattr(call, name) for name in type(call).__dataclass_fields__}
                return trainer.optim_step(AdamParams(**fields), idempotency_key=key)
            case SaveState():
                return trainer.save_state(call.name)
            case Load():
                path = self._path(CheckpointTarget.TRAINER, call.name)
                if call.optimizer:
                    return trainer.load_state_with_optimizer(path)
                return trainer.load_state(path)
            case Init():
                return trainer.init_trainer_server(call.rank)
            case Publish():
                return trainer.save_weights_and_get_sampling_client(call.name)

    def _path(self, target: CheckpointTarget, name: str) -> str:
        return str(CheckpointAddress(self.trainer.run_id or "", target, name))

    def _repeat(self, call: Repeat) -> None:
        keyed = [asked for asked in self.asked if asked.key is not None]
        if call.back >= len(keyed):
            return
        first = keyed[-1 - call.back]
        again = _taken(first.call, lambda: self._send(first.call, first.key))
        expect_equal(again.operation_id, first.future.operation_id, "a repeated key's operation")
        self.asked.append(Asked(first.call, again, first.expected, first.before))
        self._may_cancel = False

    def _cancel(self) -> None:
        if not self._may_cancel or self.asked[-1].was_read:
            return
        self._may_cancel = False
        asked = self.asked[-1]
        if asked.expected.error_class is None and asked.future.cancel():
            asked.expected = Expected("OperationCancelledError")
            self.oracle.state = asked.before

    def _refuse(self, call: Refused) -> None:
        key = next((asked.key for asked in reversed(self.asked) if asked.key is not None), None)
        if call.what == "a used key with another body" and key is None:
            return
        field = refusal_field(call.what)
        wanted = "UsageError" if field else "ConflictError"
        try:
            taken = make_wrong_call(self.trainer, call.what, key)
        except LoopsError as error:
            classes = {cls.__name__ for cls in type(error).__mro__}
            expect(wanted in classes, f"{call.what} should be a {wanted}", error=error)
            named = not field or error.field == field
            expect(named, f"the refusal of {call.what} should name {field}", field=error.field)
            return
        raise CheckFailed(f"{call.what} should be refused at the call", {"returned": taken})

    def _sample(self, call: Sample) -> None:
        if call.of is not None and call.of not in self.oracle.published:
            return
        name, version = self.oracle.of_sample(call), self.oracle.version
        weights = self.oracle.live
        if call.of is not None:
            weights, version = self.oracle.published[call.of]
        response = _taken(call, lambda: self._draw(call))
        expect_equal(response.policy_version, version, "policy_version of the sample")
        check_samples(call, response.sequences)
        drawn = [(each.tokens, each.logprobs) for each in response.sequences]
        self._same(name, drawn, say(call))
        if self.oracle.shown(weights) == self.oracle.shown(self.oracle.state.weights):
            for tokens, logprobs in drawn:
                self._compare_with_forward(call, tokens, logprobs or [])

    def _draw(self, call: Sample) -> Any:
        from loops_core.types.datum import ModelInput
        from loops_core.types.sampling import SamplingParams

        params = SamplingParams(
            max_tokens=call.max_tokens, temperature=call.temperature, seed=call.seed
        )
        prompt = ModelInput.from_ints(call.prompt)
        return self._sampler(call.of).sample(prompt, call.num_samples, params)

    def _sampler(self, of: str | None) -> SamplingClient:
        if of is None:
            published = [asked for asked in self.asked if isinstance(asked.call, Publish)]
            if published:
                return self.read(published[-1])
        if of is not None:  # what the name means changes when it is published again
            for asked in self.asked:
                if isinstance(asked.call, Publish) and asked.call.name == of:
                    self.read(asked)
            path = self._path(CheckpointTarget.SAMPLER, of)
            return self.subject.close_later(self.subject.sampler(model_path=path))
        if of not in self._samplers:
            self._samplers[of] = self.subject.sampler()
        return self._samplers[of]

    def _compare_with_forward(self, call: Sample, tokens: list[int], logprobs: list[float]) -> None:
        """Compare a sample's log-probabilities with those of a pass over the same weights."""
        text = (*call.prompt, *tokens)
        row = Row(tuple(text[:-1]), tuple(text[1:]))
        output = self.trainer.forward([row.datum()]).result(self.timeout_s)
        scored = output.loss_fn_outputs[0]["logprobs"].to_numpy()[len(call.prompt) - 1 :]
        # float32 on both sides; sums that run in another order differ by about 1e-6.
        near = scored.shape == (len(logprobs),) and np.allclose(scored, logprobs, atol=1e-4)
        expect(
            near,
            "a sample's logprobs are those of forward over the published weights",
            sampled=logprobs,
            forward=scored.tolist(),
        )

    def read(self, asked: Asked) -> Any:
        """Return the result of an operation once it was compared; None = it failed as it must.

        Raises:
            CheckFailed: it is not what it must be.
        """
        asked.was_read = True
        wanted, told = asked.expected, say(asked.call)
        try:
            result = asked.future.result(self.timeout_s)
        except LoopsError as error:
            _check_error(told, error, wanted.error_class)
            return None
        if wanted.error_class is not None:
            raise CheckFailed(f"{told} should end in a {wanted.error_class}", {"result": result})
        if isinstance(result, ForwardBackwardOutput) and isinstance(asked.call, Pass):
            check_output(asked.call, result)
        _check_facts(told, result, wanted.facts)
        if wanted.name is not None:
            self._same(wanted.name, comparable(result), told)
        return result

    def _same(self, name: Hashable, value: object, told: str) -> None:
        first = self.seen.setdefault(name, value)
        expect(value == first, f"{told} should give what it gave before", first=first, now=value)


def _taken(call: ProgramCall, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except LoopsError as error:
        raise CheckFailed(f"{say(call)} should be taken", {"raised": error}) from error


def _check_error(told: str, error: LoopsError, wanted: str | None) -> None:
    if wanted is None:
        raise CheckFailed(f"{told} should succeed", {"raised": error}) from error
    if wanted == "OperationCancelledError":
        right = isinstance(error, OperationCancelledError)
    else:
        classes = {cls.__name__ for cls in type(error).__mro__}
        right = wanted in classes or (
            isinstance(error, RemoteOpError) and error.error_class == wanted
        )
    expect(right, f"{told} should end in a {wanted}", raised=error)


def _check_facts(told: str, result: Any, facts: Mapping[str, float]) -> None:
    for name, value in facts.items():
        metrics: Mapping[str, float] = getattr(result, "metrics", None) or {}
        seen = getattr(result, name, metrics.get(name))
        expect(seen == value, f"{name} of {told} should be {value}", seen=seen)
