"""What the sections share: their setup, small batches, and a count of the SDK's requests."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import logging
import random
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from baseten.loops import AdamParams, Datum, ForwardBackwardOutput, ModelInput, TensorData
from baseten.loops.training_client import TrainingClient

ADAM = AdamParams(learning_rate=1e-2)


@dataclass(frozen=True)
class Setup:
    """Where the service is, and what to play with.

    Attributes:
        url: address of the control plane.
        api_key: a key that it takes.
        trainer_url: the trainer for clients without control plane.
        sampler_url: its paired sampler.
        base_model: a small base model.
        team: the name of the key's team.
        folder: an empty directory to write into.
    """

    url: str
    api_key: str
    trainer_url: str
    sampler_url: str
    base_model: str
    team: str
    folder: str


def count_requests() -> Counter:
    """Return a counter that grows with every request, by method, what was asked, and status."""
    counter: Counter = Counter()

    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert isinstance(record.args, tuple)
            method, url, _, status, _ = record.args
            *_, kind, last = urlsplit(str(url)).path.split("/")
            counter[f"{method} {'operation' if kind == 'operations' else last} {status}"] += 1

    log = logging.getLogger("httpx")  # httpx tells each request at INFO; the SDK turns that off
    log.setLevel(logging.INFO)
    log.addHandler(Count())
    log.propagate = False
    return counter


def make_datum(tokens: list[int], ignored: int = 0) -> Datum:
    """Return a datum that predicts each next token, except for the first `ignored` positions."""
    targets = [-100] * ignored + tokens[1 + ignored :]
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": int_tensor(targets)},
    )


def make_batch() -> list[Datum]:
    """Return three datums of different lengths, the same in every process."""
    rng = random.Random(0)
    return [
        make_datum([rng.randrange(3, 32) for _ in range(size)], ignored=size // 4)
        for size in (9, 5, 17)
    ]


def int_tensor(values: list[int]) -> TensorData:
    """Return token ids as a tensor."""
    return TensorData(data=values, dtype="int64", shape=[len(values)])


def logprobs_of(output: ForwardBackwardOutput) -> list[list[float | None]]:
    """Return the log-probabilities of a pass, a list a datum."""
    return [one["logprobs"].tolist() for one in output.loss_fn_outputs]


def take_step(trainer: TrainingClient, batch: list[Datum]) -> dict[str, float]:
    """Take one step, both operations submitted before either is read; return what it told."""
    passed, stepped = trainer.forward_backward(batch), trainer.optim_step(ADAM)
    metrics = stepped.result().metrics
    return {"loss": passed.result().loss, **metrics}
