"""What a rule may need, and how to find out whether a service has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from loops_core.errors import LoopsError, NotFoundError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from loops_core.types.datum import Datum
    from loops_core.types.sampling import SamplingParams
    from loops_mock.contract.subject import Subject

Probe = Callable[["Subject", str], bool]
"""Tells whether a service has a feature; the text is what follows the feature's colon."""


def probe(subject: Subject, feature: str) -> bool:
    """Return whether the service has a feature, by asking it.

    Raises:
        ValueError: nobody knows such a feature.
    """
    name, _, argument = feature.partition(":")
    if name not in PROBES:
        raise ValueError(f"a rule needs {feature!r}: expected one of {', '.join(sorted(PROBES))}")
    return PROBES[name](subject, argument)


def _http(subject: Subject, _: str) -> bool:
    return subject.target.is_http


def _feature(subject: Subject, argument: str) -> bool:
    """Return whether the service advertises an extension, such as `poll/1`."""
    return subject.target.is_http and argument in subject.raw.advertised()


def _loss(subject: Subject, name: str) -> bool:
    try:
        subject.trainer().forward(loss_data(subject, name), name).result(timeout=120)
    except (UsageError, UnsupportedError):
        return False
    except LoopsError:
        return True  # what is wrong with it, the rules tell
    return True


def loss_data(subject: Subject, loss_fn: str) -> list[Datum]:
    """Return two datums that fit a loss of the protocol."""
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    length = len(subject.tokens())
    if loss_fn in ("importance_sampling", "ppo", "cispo", "dro", "dppo"):
        inputs["logprobs"] = np.full(length, -3.0, dtype=np.float32)
        inputs["advantages"] = np.linspace(-1.0, 1.0, length, dtype=np.float32)
    if loss_fn == "dpo":
        inputs["ref_logprobs"] = np.full(length, -3.0, dtype=np.float32)
    return [subject.datum(inputs=inputs) for _ in range(2)]


def _samples(subject: Subject, params: SamplingParams) -> bool:
    from loops_core.types.datum import ModelInput

    try:
        subject.sampler().sample(ModelInput.from_ints([5, 6]), 1, params)
    except (UnsupportedError, NotFoundError):
        return False
    except UsageError:
        return False
    return True


def _sampling(**wanted: object) -> Probe:
    def ask(subject: Subject, _: str) -> bool:
        from loops_core.types.sampling import SamplingParams

        fields = {"max_tokens": 1, "seed": 1, **wanted}
        return _samples(subject, SamplingParams.model_validate(fields))

    return ask


def _top_k_logprobs(subject: Subject, _: str) -> bool:
    try:
        subject.trainer().forward(subject.data(1), top_k_logprobs=2).result(timeout=120)
    except (UsageError, UnsupportedError):
        return False
    return True


def _always(_: Subject, __: str) -> bool:
    return True


PROBES: Final[dict[str, Probe]] = {
    "http": _http,
    "feature": _feature,
    "train": _always,
    "sample": _sampling(),
    "loss": _loss,
    "top_k": _sampling(top_k=2),
    "top_p": _sampling(top_p=0.9),
    "stop_tokens": _sampling(stop=[5]),
    "stop_text": _sampling(stop="x"),
    "top_k_logprobs": _top_k_logprobs,
}
"""How to find out about each feature; `loss:NAME` and `feature:NAME` take an argument."""
