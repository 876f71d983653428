"""Rules of order: operations run one by one, in the order of the calls."""

from __future__ import annotations

import threading

from loops_core import OperationFuture, OptimStepResponse
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    apply,
    expect_failed,
    expect_moved,
    expect_near,
    logprobs_of,
    look,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}


@rule(
    "order.operations-run-as-they-were-called",
    title="Operations that wait together run in the order of the calls",
    section="2.4",
    needs=_TRAIN,
)
def operations_run_as_they_were_called(subject: Subject) -> None:
    """Submit three passes with their steps, and read the steps last first."""
    trainer = subject.trainer()
    futures: list[OperationFuture[OptimStepResponse]] = []
    for number in range(3):
        trainer.forward_backward([BATCH[number]])
        rate = 1e-3 * (number + 1)
        futures.append(trainer.optim_step(ADAM.model_copy(update={"learning_rate": rate})))
    seen = [future.result().metrics or {} for future in reversed(futures)][::-1]
    steps = [metrics["step"] for metrics in seen]
    rates = [round(metrics["learning_rate"], 6) for metrics in seen]
    expect(steps == [1.0, 2.0, 3.0], "steps are counted in order", seen=steps)
    expect(rates == [1e-3, 2e-3, 3e-3], "each has its own settings", seen=rates)


@rule(
    "order.a-pass-sees-the-steps-before-it",
    title="A pass runs on the weights of its place: after earlier steps, before later ones",
    section="2.4",
    needs=_TRAIN,
)
def a_pass_sees_the_steps_before_it(subject: Subject) -> None:
    """Submit forward, step, forward, step, forward, and read them at the end."""
    trainer = subject.trainer()
    futures = [trainer.forward([DATUM])]
    for _ in range(2):
        trainer.forward_backward([DATUM])
        trainer.optim_step(ADAM)
        futures.append(trainer.forward([DATUM]))
    first, second, third = (logprobs_of(future.result()) for future in futures)
    expect_moved("the first step is between them", second, first)
    expect_moved("the second step is between them", third, second)


@rule(
    "order.submitting-ahead-changes-nothing",
    title="Operations submitted ahead give what they give when each is waited for",
    section="2.4",
    needs=_TRAIN,
)
def submitting_ahead_changes_nothing(subject: Subject) -> None:
    """Take two steps in both ways: the second gradient is of what the first has left."""
    ahead, waiting = subject.trainer(), subject.trainer()
    ahead.forward_backward([DATUM])
    ahead.optim_step(ADAM)
    ahead.forward_backward([DATUM])
    one = apply(ahead)
    waiting.forward_backward([DATUM]).result()
    apply(waiting)
    waiting.forward_backward([DATUM]).result()
    two = apply(waiting)
    expect_near("grad_norm is the same", one["grad_norm"], two["grad_norm"])


@rule(
    "order.a-failure-is-alone",
    title="A failed operation fails alone: those behind it run as if it had not been",
    section="2.4",
    needs=_TRAIN,
)
def a_failure_is_alone(subject: Subject) -> None:
    """Submit a step without gradients, and a pass and its step behind it."""
    failed, plain = subject.trainer(), subject.trainer()
    bad = failed.optim_step(ADAM)
    one, two = step(failed), step(plain)
    expect_failed("the first step fails", bad.result)
    expect(one["step"] == 1.0, "the second is the first that counts", seen=one)
    expect_near("its gradient is its own", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(failed), look(plain))


@rule(
    "order.errors-say-what-was-wrong",
    title="A failed operation's error tells its class and a reason",
    section="2.6",
    needs=_TRAIN,
)
def errors_say_what_was_wrong(subject: Subject) -> None:
    """Step without gradients: the reason is that there are none."""
    trainer = subject.trainer()
    error = expect_failed("the step fails", lambda: trainer.optim_step(ADAM).result())
    told = getattr(error, "error_class", type(error).__name__)
    expect(told, "the class is told", seen=error.fields())
    expect("gradient" in str(error), "the reason is told", seen=str(error))


@rule(
    "order.threads-lose-nothing",
    title="Calls from several threads are all accepted, and each is applied once",
    section="2.4",
    needs=_TRAIN,
)
def threads_lose_nothing(subject: Subject) -> None:
    """Three threads add one pass each; the step divides by the positions of all three."""
    trainer, twin = subject.trainer(), subject.trainer()
    threads = [
        threading.Thread(target=trainer.forward_backward, args=([datum],)) for datum in BATCH
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = apply(trainer), step(twin, BATCH)
    expect_near("grad_norm is that of all three", one["grad_norm"], two["grad_norm"])
