"""Rules of batches too large for one request: in parts they give what they give whole."""

from __future__ import annotations

from loops_core import Datum, TrainingClient
from loops_mock.contract.carriers import SmallBodies
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    SEED,
    TEXTS,
    apply,
    expect_near,
    expect_refused,
    ignore_from,
    logprobs_of,
    look,
    make_datum,
    run_loss,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import RANK, Subject

_TRAIN = {"train"}
_MAX_BYTES = 3600
"""Room for a few datums of eight positions."""

_MANY = [*BATCH, *BATCH, make_datum(TEXTS[0], targets=ignore_from(3))]


def _small(subject: Subject) -> TrainingClient:
    """Return a client of a new run whose bodies hold few datums."""
    service = subject.service_over(lambda below: SmallBodies(below, max_bytes=_MAX_BYTES))
    return service.create_lora_training_client(subject.base_model, rank=RANK, seed=SEED)


def _num_requests(subject: Subject, kind: str = "forward_backward(") -> int:
    return sum(made.asked.startswith(kind) for made in subject.calls)


@rule(
    "chunking.parts-give-the-whole",
    title="A batch in parts gives the gradients and the step of the batch in one request",
    section="2.10",
    needs=_TRAIN,
)
def parts_give_the_whole(subject: Subject) -> None:
    """Send seven datums in parts, and whole."""
    small, large = _small(subject), subject.trainer()
    one = step(small, _MANY)
    sent = _num_requests(subject)
    two = step(large, _MANY)
    expect(sent > 1, "the batch was split", requests=sent)
    expect_near("grad_norm is the same", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(small), look(large))


@rule(
    "chunking.results-keep-the-order",
    title="The result of a batch in parts has one entry for each datum, in the order of the data",
    section="2.10",
    needs=_TRAIN,
)
def results_keep_the_order(subject: Subject) -> None:
    """Run datums that differ in length forward, in parts and whole."""
    data: list[Datum] = [make_datum(TEXTS[n % 3][: 3 + n]) for n in range(7)]
    small, large = _small(subject), subject.trainer()
    one = small.forward(data).result()
    sent = _num_requests(subject, "forward(")
    two = large.forward(data).result()
    expect(sent > 1, "the batch was split", requests=sent)
    lengths = [len(tensors["logprobs"].to_numpy()) for tensors in one.loss_fn_outputs]
    expect(lengths == [2 + n for n in range(7)], "each has its length", seen=lengths)
    expect_near("the log-probabilities are the same", logprobs_of(one), logprobs_of(two))


@rule(
    "chunking.parts-wait-for-none-else",
    title="Nothing comes between the parts of a batch and its step",
    section="2.10",
    needs=_TRAIN,
)
def parts_wait_for_none_else(subject: Subject) -> None:
    """Submit a batch in parts, its step, and another batch with its step, and read them all."""
    small, large = _small(subject), subject.trainer()
    small.forward_backward(_MANY[:4])
    first = small.optim_step(ADAM)
    second = step(small, _MANY[3:])
    one = first.result().metrics or {}
    counted = [one["step"], second["step"]]
    expect(counted == [1.0, 2.0], "both steps are applied", seen=counted)
    whole = step(large, _MANY[:4])["grad_norm"]
    expect_near("the first step has its own parts alone", one["grad_norm"], whole)


@rule(
    "chunking.a-repeated-batch-adds-once",
    title="A batch in parts repeated under its key adds its gradients once",
    section="2.10",
    needs=_TRAIN,
)
def a_repeated_batch_adds_once(subject: Subject) -> None:
    """Repeat it; plain sums tell how often it was added."""
    small, large = _small(subject), subject.trainer()
    sums = {"skip_token_normalization": True}
    for _ in range(2):
        small.forward_backward(_MANY, loss_fn_config=sums, idempotency_key="batch-1").result()
    large.forward_backward(_MANY, loss_fn_config=sums)
    one, two = (apply(client) for client in (small, large))
    expect_near("grad_norm is that of one batch", one["grad_norm"] / two["grad_norm"], 1.0)


@rule(
    "chunking.pairs-stay-together",
    title="The chosen and the rejected text of a dpo pair are never separated",
    section="2.10",
    needs={"train", "loss:dpo"},
)
def pairs_stay_together(subject: Subject) -> None:
    """Send three pairs in parts, and whole."""
    data = [make_datum(TEXTS[n % 3], ref_logprobs=[-1.0 - 0.1 * n] * 8) for n in range(6)]
    small, large = _small(subject), subject.trainer()
    run_loss(small, data, "dpo", backward=True)
    run_loss(large, data, "dpo", backward=True)
    one, two = (apply(client) for client in (small, large))
    expect_near("grad_norm is the same", one["grad_norm"] / two["grad_norm"], 1.0, atol=1e-3)


@rule(
    "chunking.a-datum-too-large-is-refused",
    title="A datum that fits into no request is refused at the call, and names its place",
    section="2.10",
    needs=_TRAIN,
)
def a_datum_too_large_is_refused(subject: Subject) -> None:
    """Put a datum with 200 targets at each position between small ones."""
    small = _small(subject)
    wide = make_datum(TEXTS[0], targets=[[token] * 200 for token in TEXTS[0][1:]])
    expect_refused("it is too large", lambda: small.forward_backward([BATCH[0], wide]), "data[1]")
    counted = step(small)["step"]
    expect(counted == 1.0, "the client goes on", seen=counted)
