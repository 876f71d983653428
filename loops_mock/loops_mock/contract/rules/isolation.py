"""Rules of isolation: runs of one base model know nothing of each other."""

from __future__ import annotations

from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    apply,
    expect_failed,
    expect_moved,
    expect_near,
    expect_same,
    look,
    publish,
    score,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}
_BOTH = {"train", "sample"}


@rule(
    "isolation.a-step-moves-its-own-run",
    title="The steps of one run do not change another",
    section="6.1",
    needs=_TRAIN,
)
def a_step_moves_its_own_run(subject: Subject) -> None:
    """Step in one of two runs."""
    one, two = subject.trainer(), subject.trainer()
    before = look(two)
    step(one)
    expect_moved("the run that stepped has moved", look(one), before)
    expect_same("the other has not", look(two), before)


@rule(
    "isolation.gradients-stay-in-their-run",
    title="The gradients of one run are not in the step of another",
    section="6.1",
    needs=_TRAIN,
)
def gradients_stay_in_their_run(subject: Subject) -> None:
    """Two runs take turns with passes, then step."""
    one, two, twin = subject.trainer(), subject.trainer(), subject.trainer()
    one.forward_backward([DATUM])
    two.forward_backward([BATCH[1]])
    mixed, plain = apply(one), step(twin)
    expect_near("grad_norm is of its own pass", mixed["grad_norm"], plain["grad_norm"])
    expect_near("and so is the step", look(one), look(twin))


@rule(
    "isolation.a-reset-is-of-its-own-run",
    title="init_trainer_server in one run leaves the others as they are",
    section="6.1",
    needs=_TRAIN,
)
def a_reset_is_of_its_own_run(subject: Subject) -> None:
    """Start over in one of two runs."""
    one, two = subject.trainer(), subject.trainer()
    step(two)
    before = look(two)
    one.init_trainer_server(2).result()
    expect_same("the other has its weights", look(two), before)
    counted = step(two)["step"]
    expect(counted == 2.0, "and its count", seen=counted)


@rule(
    "isolation.samplers-serve-their-own-run",
    title="A sampler serves the weights of its own run, not those of another",
    section="6.5",
    needs=_BOTH,
)
def samplers_serve_their_own_run(subject: Subject) -> None:
    """Publish the same name in a run that has stepped, and in one that has not."""
    one, two = subject.trainer(), subject.trainer()
    step(one)
    first, second = publish(one, "same"), publish(two, "same")
    expect_near("the first serves the first", score(first), look(one))
    expect_near("the second serves the second", score(second), look(two))


@rule(
    "isolation.checkpoints-belong-to-their-run",
    title="A name in one run is not the same name in another",
    section="6.2",
    needs=_TRAIN,
)
def checkpoints_belong_to_their_run(subject: Subject) -> None:
    """Save one name in two runs, and load the first."""
    one, two = subject.trainer(), subject.trainer()
    step(one)
    there = look(one)
    path = one.save_state("same").result().path
    two.save_state("same").result()
    listed = [found.run_id for found in one.list_checkpoints()]
    expect(listed == [one.run_id], "only its own is listed", seen=listed)
    two.load_state(path).result()
    expect_same("the first run's is the first run's", look(two), there)


@rule(
    "isolation.a-failure-stays-in-its-run",
    title="A failed operation of one run does not concern another",
    section="6.1",
    needs=_TRAIN,
)
def a_failure_stays_in_its_run(subject: Subject) -> None:
    """Fail in one of two runs."""
    one, two = subject.trainer(), subject.trainer()
    expect_failed("a step without gradients fails", lambda: one.optim_step(ADAM).result())
    counted = step(two)["step"]
    expect(counted == 1.0, "the other goes on", seen=counted)


@rule(
    "isolation.closing-one-client-leaves-others",
    title="Closing a client leaves the clients of other runs usable",
    section="7.2",
    needs=_TRAIN,
)
def closing_one_client_leaves_others(subject: Subject) -> None:
    """Close one of two clients."""
    one, two = subject.trainer(), subject.trainer()
    one.close()
    counted = step(two)["step"]
    expect(counted == 1.0, "the other goes on", seen=counted)
