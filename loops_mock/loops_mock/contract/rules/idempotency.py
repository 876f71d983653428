"""Rules of idempotency keys: what is asked again under its key happens once."""

from __future__ import annotations

import threading

from loops_core.errors import ConflictError, LoopsError
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    apply,
    expect_near,
    expect_same,
    logprobs_of,
    look,
    step,
)
from loops_mock.contract.rule import expect, expect_raises, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}


@rule(
    "idempotency.a-repeated-pass-adds-once",
    title="A pass repeated under its key adds its gradients once, and returns the first result",
    section="2.3",
    needs=_TRAIN,
)
def a_repeated_pass_adds_once(subject: Subject) -> None:
    """Repeat it before and after its end, with another pass beside it."""
    repeated, plain = subject.trainer(), subject.trainer()
    first = repeated.forward_backward([DATUM], idempotency_key="pass-1")
    again = repeated.forward_backward([DATUM], idempotency_key="pass-1")
    expect(first.operation_id == again.operation_id, "it is the same operation")
    expect_same("the result is the first", logprobs_of(again.result()), logprobs_of(first.result()))
    repeated.forward_backward([DATUM], idempotency_key="pass-1")
    one = step(repeated, [BATCH[1]])
    two = step(plain, BATCH[:2])
    expect_near("grad_norm is that of two passes", one["grad_norm"], two["grad_norm"])


@rule(
    "idempotency.a-repeated-step-applies-once",
    title="A step repeated under its key is applied once, also after its end",
    section="2.3",
    needs=_TRAIN,
)
def a_repeated_step_applies_once(subject: Subject) -> None:
    """Repeat a step at once, and once its result was read and new gradients wait."""
    trainer = subject.trainer()
    trainer.forward_backward([DATUM])
    first = trainer.optim_step(ADAM, idempotency_key="step-1")
    again = trainer.optim_step(ADAM, idempotency_key="step-1")
    seen = [(future.result().metrics or {}).get("step") for future in (first, again)]
    expect(seen == [1.0, 1.0], "both are the first step", seen=seen)
    trainer.forward_backward([DATUM])
    late = trainer.optim_step(ADAM, idempotency_key="step-1").result().metrics or {}
    expect(late.get("step") == 1.0, "so is one that comes late", metrics=late)
    after = apply(trainer)
    expect(after.get("step") == 2.0, "the gradients still waited", metrics=after)


@rule(
    "idempotency.another-body-is-a-conflict",
    title="A key that is used with another body is refused, and nothing is executed",
    section="2.3",
    needs=_TRAIN,
)
def another_body_is_a_conflict(subject: Subject) -> None:
    """Use one key for two different passes."""
    trainer, plain = subject.trainer(), subject.trainer()
    first = trainer.forward_backward([DATUM], idempotency_key="pass-1")
    error = expect_raises(
        ConflictError,
        lambda: trainer.forward_backward([BATCH[1]], idempotency_key="pass-1").result(),
        "another pass under the key",
    )
    known = (None, first.operation_id)
    expect(error.first_operation_id in known, "it names the first", seen=error.fields())
    one, two = apply(trainer), step(plain)
    expect_near("grad_norm is that of the first", one["grad_norm"], two["grad_norm"])


@rule(
    "idempotency.runs-have-keys-of-their-own",
    title="The same key in two runs is two operations",
    section="2.3",
    needs=_TRAIN,
)
def runs_have_keys_of_their_own(subject: Subject) -> None:
    """Use one key in two runs."""
    trainers = [subject.trainer(), subject.trainer()]
    futures = [t.forward_backward([DATUM], idempotency_key="same") for t in trainers]
    losses = [future.result().loss for future in futures]
    expect_near("both have run", losses[1], losses[0])
    steps = [apply(t).get("step") for t in trainers]
    expect(steps == [1.0, 1.0], "both have gradients", seen=steps)


@rule(
    "idempotency.a-failure-is-repeated-too",
    title="A failed operation repeated under its key fails again, and does not run",
    section="2.3",
    needs=_TRAIN,
)
def a_failure_is_repeated_too(subject: Subject) -> None:
    """Repeat a step that had no gradients once there are some."""
    trainer = subject.trainer()
    bad = trainer.optim_step(ADAM, idempotency_key="step-1")
    expect_raises(LoopsError, bad.result, "a step without gradients")
    trainer.forward_backward([DATUM])
    again = trainer.optim_step(ADAM, idempotency_key="step-1")
    expect_raises(LoopsError, again.result, "the same step")
    counted = apply(trainer).get("step")
    expect(counted == 1.0, "the gradients still wait", step=counted)


@rule(
    "idempotency.calls-without-a-key-are-not-repeats",
    title="The same call without a key is another operation",
    section="2.3",
    needs=_TRAIN,
)
def calls_without_a_key_are_not_repeats(subject: Subject) -> None:
    """Step twice with the same settings."""
    trainer = subject.trainer()
    before = look(trainer)
    counted = [step(trainer)["step"] for _ in range(2)]
    expect(counted == [1.0, 2.0], "both are applied", seen=counted)
    expect(abs(look(trainer) - before).max() > 0, "the weights move")


@rule(
    "idempotency.keys-are-kept",
    title="A key is kept for longer than a client goes on repeating: seconds later it is known",
    section="2.3",
    needs=_TRAIN,
)
def keys_are_kept(subject: Subject) -> None:
    """Repeat a step after more than a second."""
    trainer = subject.trainer()
    trainer.forward_backward([DATUM])
    trainer.optim_step(ADAM, idempotency_key="step-1").result()
    trainer.forward_backward([DATUM])
    threading.Event().wait(1.3)
    late = trainer.optim_step(ADAM, idempotency_key="step-1").result().metrics or {}
    expect(late.get("step") == 1.0, "it is the first step", metrics=late)
