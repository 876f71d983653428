"""Rules that seeded faults have shown to be missing; each is a handful of calls."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar, cast, final

from loops_core import OptimStepResponse
from loops_core.errors import TransportError, UnreachableError
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.datum import ModelInput
from loops_core.types.operation import OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import SamplingParams
from loops_mock.contract.answers import ok
from loops_mock.contract.carriers import Carrier, HastyClock, LosesAnswers
from loops_mock.contract.probes import ADAM, PROMPT, expect_near, look, make_datum, step
from loops_mock.contract.rule import CheckFailed, expect, expect_raises, rule
from loops_mock.contract.subject import RANK, Subject

ReplyT = TypeVar("ReplyT", bound=WireModel)

_ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}


@rule(
    "sampling.a-cut-sequence-says-so",
    title="A sequence that was cut off at max_tokens ends for the reason length",
    section="4.5",
    needs={"sample"},
)
def a_cut_sequence_says_so(subject: Subject) -> None:
    """Draw single tokens without a stop: not every one of them is the end of a text."""
    wish = SamplingParams(max_tokens=1, seed=3)
    drawn = subject.sampler().sample(ModelInput.from_ints(list(PROMPT)), 16, wish).sequences
    reasons = {sequence.stop_reason for sequence in drawn}
    expect("length" in reasons, "some of the sequences were cut off", seen=sorted(reasons))


@rule(
    "versions.staged-weights-have-their-own",
    title="Weights that were staged do not share their version with weights published later",
    section="6.4",
    needs={"http", "train", "sample"},
)
def staged_weights_have_their_own(subject: Subject) -> None:
    """Save with bump_version false, step, and publish."""
    run = subject.raw.open_run()
    staged = run.done("save_weights_for_sampler", name="staged", bump_version=False)
    run.done("forward_backward", data=[subject.raw.datum()])
    run.done("optim_step", adam_params=_ADAM)
    published = run.done("save_weights_for_sampler", name="published", bump_version=True)
    versions = [staged["version"], published["version"]]
    expect(versions[0] < versions[1], "the later weights have a higher version", seen=versions)


@rule(
    "retrieve.error-class-is-told",
    title="A failed operation tells the class of its error in error_class",
    section="2.6",
    needs={"http", "train"},
)
def error_class_is_told(subject: Subject) -> None:
    """Load what is not there."""
    run = subject.raw.open_run()
    path = f"bt://loops:{run.id}/weights/nowhere"
    status = run.ended(run.accepted("load_state", {"path": path}))
    told = status.get("error_class")
    expect(isinstance(told, str) and told, "error_class is a class's name", status=status)


@rule(
    "adapters.init-of-the-same-rank-starts-over",
    title="init_trainer_server of the rank that the adapter has gives a fresh adapter too",
    section="6.1",
    needs={"train"},
)
def init_of_the_same_rank_starts_over(subject: Subject) -> None:
    """Train, and start over."""
    trainer = subject.trainer()
    fresh = look(trainer)
    step(trainer)
    trainer.init_trainer_server(RANK)
    expect_near("nothing is left of what was learned", look(trainer), fresh)


@rule(
    "order.tasks-keep-the-order-of-their-calls",
    title="Calls of tasks of one event loop arrive in the order in which they were made",
    section="2.4",
    needs={"train"},
)
def tasks_keep_the_order_of_their_calls(subject: Subject) -> None:
    """Make a large pass and its step at once: the small call does not overtake the large one."""
    trainer = subject.trainer()
    batch = [make_datum(subject.tokens(65)) for _ in range(72)]

    async def both() -> OptimStepResponse:
        _, stepped = await asyncio.gather(
            trainer.forward_backward_async(batch), trainer.optim_step_async(ADAM)
        )
        return await stepped

    metrics = asyncio.run(both()).metrics or {}
    expect(metrics.get("step") == 1.0, "the step has the gradients of the pass", seen=metrics)


@rule(
    "retries.a-client-gives-up-in-time",
    title="A client whose calls never arrive gives up once its timeout is over, with an error",
    section="2.7",
    needs={"train"},
)
def a_client_gives_up_in_time(subject: Subject) -> None:
    """Lose every answer to a step, on a clock that is in a hurry."""
    attempts = iter(range(7))  # pauses double from a quarter of a second: six in four seconds

    def lost() -> TransportError:
        if next(attempts, None) is None:
            raise CheckFailed("the client should give up once its timeout is over")
        return UnreachableError("the answer was lost")

    clock = HastyClock()
    service = subject.service_over(
        lambda below: LosesAnswers(below, "optim_step", times=1_000, error=lost), clock=clock
    )
    trainer = service.create_lora_training_client(subject.base_model, rank=RANK, timeout=4.0)
    start = clock.monotonic()
    expect_raises(TransportError, lambda: trainer.optim_step(ADAM), "a call that never arrives")
    seconds = clock.monotonic() - start
    expect(seconds <= 8.0, "the client gives up when 4 s are over", seconds=seconds)


@final
class _AnswersEarly(Carrier):
    """A transport whose first polls come back at once, with nothing."""

    def __init__(self, below: Transport, times: int) -> None:
        super().__init__(below)
        self._left = times

    def send(self, call: Call[ReplyT]) -> ReplyT:
        if call.route.name == routes.RETRIEVE.name and self._left:
            self._left -= 1
            return cast("ReplyT", OperationStatus(status="pending"))
        return self.below.send(call)


@rule(
    "retries.early-answers-slow-a-client-down",
    title="A client whose polls come back at once slows down",
    section="2.6",
    needs={"train"},
)
def early_answers_slow_a_client_down(subject: Subject) -> None:
    """Answer twelve polls at once: they are spread over seconds."""
    clock = HastyClock()
    service = subject.service_over(lambda below: _AnswersEarly(below, 12), clock=clock)
    start = clock.monotonic()
    service.create_lora_training_client(subject.base_model, rank=RANK)
    seconds = clock.monotonic() - start
    expect(seconds >= 1.0, "the polls are spread over a second at least", seconds=seconds)


@rule(
    "extensions.a-poll-without-a-result-is-408",
    title="A poll that comes back before its operation has ended is 408, whatever its hold",
    section="8.3",
    needs={"http", "train", "feature:poll/1"},
)
def a_poll_without_a_result_is_408(subject: Subject) -> None:
    """Poll the last of several passes without a hold, until it has ended."""
    run = subject.raw.open_run()
    batch = [subject.raw.datum()] * 64
    last = [run.accepted("forward", {"data": batch}) for _ in range(4)][-1]
    reply = run.get(f"/operations/{last}", headers={"X-Loops-Hold": "0"})
    is_ended = reply.status_code == 200 and reply.json().get("status") in ("done", "error")
    expect(
        is_ended or reply.status_code == 408,
        "the poll is 408, or tells the end",
        status=reply.status_code,
        body=reply.text[:200],
    )


@rule(
    "extensions.refusals-name-the-field",
    title="A refusal of a body names the field that is wrong",
    section="8.1",
    needs={"http", "train", "feature:poll/1"},
)
def refusals_name_the_field(subject: Subject) -> None:
    """Ask for an adapter of rank 0."""
    reply = subject.raw.open_run().submit("init_trainer_server", {"lora_rank": 0})
    told = reply.json()
    expect("lora_rank" in str(told.get("field")), "the field is named", answer=told)


@rule(
    "errors.another-runs-header-is-refused",
    title="A submit whose X-Run-Id is not the run at the trainer's address is refused",
    section="2.1",
    needs={"http", "train", "feature:poll/1"},
)
def another_runs_header_is_refused(subject: Subject) -> None:
    """Send a pass to one run's trainer under another run's id."""
    run = subject.raw.open_run()
    other = subject.raw.create_trainer().json()["run"]["id"]
    body = {"data": [subject.raw.datum()], "run_id": None}
    reply = run.submit("forward", body, headers={"X-Run-Id": other})
    expect(400 <= reply.status_code < 500, "it is a 4xx", status=reply.status_code)


@rule(
    "extensions.a-repeated-create-is-one-run",
    title="A create repeated under its Idempotency-Key gives the run that it made",
    section="8.1",
    needs={"http", "train", "feature:poll/1"},
)
def a_repeated_create_is_one_run(subject: Subject) -> None:
    """Create a trainer twice under one key."""
    wire = subject.raw
    body = {"session_id": wire.open_session(), "base_model": subject.base_model, "lora_rank": RANK}
    key = {"Idempotency-Key": f"create-{subject.seed}"}
    made = [ok(wire.post("/v1/loops/trainers", body, headers=key))["run"]["id"] for _ in range(2)]
    subject.log.run_ids.extend(dict.fromkeys(made))
    expect(made[0] == made[1], "both answers name the same run", seen=made)


@rule(
    "retrieve.a-poll-is-held",
    title="A poll for an operation that waits is not answered 408 at once: it is held for seconds",
    section="2.6",
    needs={"http", "train"},
)
def a_poll_is_held(subject: Subject) -> None:
    """Poll the last of several passes right away."""
    run = subject.raw.open_run()
    batch = [subject.raw.datum()] * 64
    last = [run.accepted("forward", {"data": batch}) for _ in range(6)][-1]
    start = time.perf_counter()
    reply = run.poll(last)
    seconds = time.perf_counter() - start
    is_held = reply.status_code != 408 or seconds >= 1.0
    expect(is_held, "the poll is held, or tells the end", seconds=seconds)
