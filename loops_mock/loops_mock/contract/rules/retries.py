"""Rules of lost answers: the client asks again, and what had arrived happens once."""

from __future__ import annotations

from loops_core import TrainingClient
from loops_core.errors import BusyError
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.operation import OperationKind
from loops_mock.contract.carriers import HastyClock, LosesAnswers
from loops_mock.contract.probes import DATUM, SEED, apply, expect_near, step
from loops_mock.contract.rule import NotOffered, expect, rule
from loops_mock.contract.subject import RANK, Subject

_TRAIN = {"train"}


def _repeats_creates(carriers: list[LosesAnswers]) -> bool:
    return all(carrier.repeats_creates for carrier in carriers)


def _losing(subject: Subject, route: str, times: int = 2) -> tuple[TrainingClient, LosesAnswers]:
    """Return a client of a new run whose first answers of a route are lost."""
    carriers: list[LosesAnswers] = []

    def wrap(below: Transport) -> LosesAnswers:
        carriers.append(LosesAnswers(below, route, times=times))
        return carriers[-1]

    service = subject.service_over(wrap, clock=HastyClock())
    if route == routes.CREATE_TRAINER.name and not _repeats_creates(carriers):
        raise NotOffered("creates that can be repeated")
    trainer = service.create_lora_training_client(subject.base_model, rank=RANK, seed=SEED)
    return trainer, carriers[0]


@rule(
    "retries.a-lost-pass-adds-once",
    title="A pass whose answer is lost is asked for again, and adds its gradients once",
    section="2.7",
    needs=_TRAIN,
)
def a_lost_pass_adds_once(subject: Subject) -> None:
    """Lose the answer twice; plain sums tell how often it was added."""
    trainer, carrier = _losing(subject, OperationKind.FORWARD_BACKWARD.value)
    plain = subject.trainer()
    norms: list[float] = []
    for client in (trainer, plain):
        client.forward_backward([DATUM], loss_fn_config={"skip_token_normalization": True})
        norms.append(apply(client)["grad_norm"])
    expect(carrier.num_lost == 2, "answers were lost", seen=carrier.num_lost)
    expect_near("grad_norm is that of one pass", norms[0] / norms[1], 1.0)


@rule(
    "retries.a-lost-step-applies-once",
    title="A step whose answer is lost is asked for again, and is applied once",
    section="2.7",
    needs=_TRAIN,
)
def a_lost_step_applies_once(subject: Subject) -> None:
    """Lose the answer twice, and step again."""
    trainer, carrier = _losing(subject, OperationKind.OPTIM_STEP.value)
    counted = [step(trainer)["step"] for _ in range(2)]
    expect(carrier.num_lost == 2, "answers were lost", seen=carrier.num_lost)
    expect(counted == [1.0, 2.0], "each step is applied once", seen=counted)


@rule(
    "retries.a-lost-publication-counts-once",
    title="A publication whose answer is lost raises the policy version once",
    section="2.7",
    needs={"train", "sample"},
)
def a_lost_publication_counts_once(subject: Subject) -> None:
    """Lose the answer once."""
    trainer, carrier = _losing(subject, OperationKind.SAVE_WEIGHTS_FOR_SAMPLER.value, times=1)
    version = trainer.save_weights_for_sampler("once").result().version
    expect(carrier.num_lost == 1, "an answer was lost", seen=carrier.num_lost)
    seen = [version, trainer.policy_version]
    expect(seen == [1, 1], "the version is 1", seen=seen)


@rule(
    "retries.a-lost-result-is-fetched-again",
    title="A result whose answer is lost on the way can be fetched again",
    section="2.6",
    needs=_TRAIN,
)
def a_lost_result_is_fetched_again(subject: Subject) -> None:
    """Lose the first answers to polls, of either kind."""
    lost = 0
    for route in (routes.RETRIEVE.name, routes.POLL.name):
        trainer, carrier = _losing(subject, route)
        counted = step(trainer)["step"]
        expect(counted == 1.0, "the result is there", route=route, seen=counted)
        lost += carrier.num_lost
    expect(lost > 0, "answers were lost", seen=lost)


@rule(
    "retries.a-busy-service-is-asked-again",
    title="A client that is told to come back later does so, and its operation runs once",
    section="2.7",
    needs=_TRAIN,
)
def a_busy_service_is_asked_again(subject: Subject) -> None:
    """Turn the first answers to a step into one that says: busy, come back in 3 seconds."""
    clock = HastyClock()
    service = subject.service_over(
        lambda below: LosesAnswers(
            below,
            OperationKind.OPTIM_STEP.value,
            times=2,
            error=lambda: BusyError("there is no room", retry_after_s=3.0),
        ),
        clock=clock,
    )
    trainer = service.create_lora_training_client(subject.base_model, rank=RANK, seed=SEED)
    start = clock.monotonic()
    counted = step(trainer)["step"]
    expect(counted == 1.0, "the step is applied once", seen=counted)
    waited = clock.monotonic() - start
    expect(waited >= 6.0, "the pauses that were asked for are kept", seconds=waited)


@rule(
    "retries.a-lost-create-makes-one-run",
    title="A trainer whose answer is lost is asked for again, and is the one that was made",
    section="1.2",
    needs=_TRAIN,
)
def a_lost_create_makes_one_run(subject: Subject) -> None:
    """Lose the answer to the create, where transport and service can repeat one."""
    trainer, carrier = _losing(subject, routes.CREATE_TRAINER.name, times=1)
    made = list(dict.fromkeys(subject.log.run_ids))
    expect(carrier.num_lost == 1, "an answer was lost", seen=carrier.num_lost)
    expect(made == [trainer.run_id], "there is one run", made=made, used=trainer.run_id)
