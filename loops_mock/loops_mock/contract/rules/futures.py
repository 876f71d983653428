"""Rules of futures: read any number of times, by anybody, whatever a wait ended with."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from loops_core.errors import (
    LoopsError,
    OperationCancelledError,
    ResultTimeoutError,
)
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
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
    "futures.results-are-read-twice",
    title="A result can be read again, and is the same",
    section="7.4",
    needs=_TRAIN,
)
def results_are_read_twice(subject: Subject) -> None:
    """Read one result twice, and from another thread."""
    future = subject.trainer().forward([DATUM])
    one, two = future.result(), future.result()
    with ThreadPoolExecutor(1) as pool:
        three = pool.submit(future.result).result()
    for again in (two, three):
        expect_same("the log-probabilities are the same", logprobs_of(again), logprobs_of(one))


@rule(
    "futures.a-timeout-is-not-final",
    title="A wait that timed out leaves the future usable",
    section="7.4",
    needs=_TRAIN,
)
def a_timeout_is_not_final(subject: Subject) -> None:
    """Wait 0 seconds while other operations are in front, then wait."""
    trainer = subject.trainer()
    for _ in range(3):
        trainer.forward_backward(list(BATCH))
    future = trainer.optim_step(ADAM)
    try:
        future.result(timeout=0)
    except ResultTimeoutError as error:
        expect(error.operation_id == future.operation_id, "it names the operation", error=error)
    metrics = future.result().metrics or {}
    expect(metrics.get("step") == 1.0, "the result is there", metrics=metrics)


@rule(
    "futures.an-error-is-read-twice",
    title="The error of a failed operation is raised at every read",
    section="7.4",
    needs=_TRAIN,
)
def an_error_is_read_twice(subject: Subject) -> None:
    """Read a failed step twice."""
    future = subject.trainer().optim_step(ADAM)
    one = expect_raises(LoopsError, future.result, "a step without gradients")
    two = expect_raises(LoopsError, future.result, "reading it again")
    expect(str(one) == str(two) and type(one) is type(two), "it is the same", one=one, two=two)
    found = future.exception()
    expect(found is not None, "exception() returns it", seen=found)


@rule(
    "futures.done-tells-that-it-is-there",
    title="done() is true once the operation has ended, read or not",
    section="7.4",
    needs=_TRAIN,
)
def done_tells_that_it_is_there(subject: Subject) -> None:
    """Operations end in order: when the second has, so has the first."""
    trainer = subject.trainer()
    first = trainer.forward([DATUM])
    trainer.forward([DATUM]).result()
    expect(first.done(), "the first has ended")
    expect(logprobs_of(first.result()).size == 8, "and can be read")


@rule(
    "futures.callbacks-are-called",
    title="A callback is called once the result is there",
    section="7.4",
    needs=_TRAIN,
)
def callbacks_are_called(subject: Subject) -> None:
    """Add one before, and one after the end."""
    early, late = threading.Event(), threading.Event()
    future = subject.trainer().forward([DATUM])
    future.add_done_callback(lambda _: early.set())
    future.result()
    future.add_done_callback(lambda _: late.set())
    expect(late.is_set(), "one that comes late is called at once")
    expect(early.wait(10), "one that came early is called")


@rule(
    "futures.operations-have-ids-of-their-own",
    title="Each operation has an id of its own, and its error names it",
    section="2.3",
    needs=_TRAIN,
)
def operations_have_ids_of_their_own(subject: Subject) -> None:
    """Submit three operations, of which one fails."""
    trainer = subject.trainer()
    failing = trainer.optim_step(ADAM)
    futures = [failing, trainer.forward([DATUM]), trainer.forward([DATUM])]
    ids = {future.operation_id for future in futures}
    expect(len(ids) == 3 and all(ids), "the ids differ", seen=sorted(ids))
    error = expect_raises(LoopsError, failing.result, "a step without gradients")
    expect(error.operation_id == failing.operation_id, "the error names it", seen=error.fields())


@rule(
    "futures.results-belong-to-their-operations",
    title="With many under way each future has the result of its own operation",
    section="2.4",
    needs=_TRAIN,
)
def results_belong_to_their_operations(subject: Subject) -> None:
    """Submit passes over different data, and read them all at once, last first."""
    trainer = subject.trainer()
    expected = look(trainer, BATCH).reshape(3, -1)
    futures = [trainer.forward([datum]) for datum in (*BATCH, *BATCH)]
    with ThreadPoolExecutor(6) as pool:
        reads = [pool.submit(future.result) for future in reversed(futures)][::-1]
    for number, read in enumerate(reads):
        expect_near("each has its own", logprobs_of(read.result()), expected[number % 3])


@rule(
    "futures.a-cancelled-one-never-runs",
    title="cancel() is true only for an operation that then never runs",
    section="7.4",
    needs=_TRAIN,
)
def a_cancelled_one_never_runs(subject: Subject) -> None:
    """Cancel the last of three steps; the count of the next tells whether it ran."""
    trainer = subject.trainer()
    trainer.forward_backward(list(BATCH))
    trainer.optim_step(ADAM)
    trainer.forward_backward(list(BATCH))
    last = trainer.optim_step(ADAM)
    was_cancelled = last.cancel()
    if was_cancelled:
        expect_raises(OperationCancelledError, last.result, "reading it")
    else:
        last.result()
    counted = step(trainer)["step"]
    expected = 2.0 if was_cancelled else 3.0
    expect(counted == expected, "it ran or not, as told", cancelled=was_cancelled, step=counted)


@rule(
    "futures.what-has-ended-is-not-cancelled",
    title="cancel() of an operation that has ended is false, and its result stays",
    section="7.4",
    needs=_TRAIN,
)
def what_has_ended_is_not_cancelled(subject: Subject) -> None:
    """Cancel a pass behind which another one has ended."""
    trainer = subject.trainer()
    first = trainer.forward([DATUM])
    trainer.forward([DATUM]).result()
    expect(not first.cancel(), "it is too late")
    expect(logprobs_of(first.result()).size == 8, "the result is there")


@rule(
    "futures.results-are-kept",
    title="A result is there for who comes late",
    section="2.6",
    needs=_TRAIN,
)
def results_are_kept(subject: Subject) -> None:
    """Come a while after it has ended."""
    trainer = subject.trainer()
    first = trainer.forward([DATUM])
    trainer.forward([DATUM]).result()
    threading.Event().wait(0.3)
    expect(logprobs_of(first.result()).size == 8, "it is there")
