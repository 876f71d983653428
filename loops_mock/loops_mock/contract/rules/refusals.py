"""Rules of refusals: what is wrong is said at the call, by name, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from loops_core import Datum, ModelInput, SamplingClient, SamplingParams, TensorData, TrainingClient
from loops_mock.contract.probes import (
    ADAM,
    DATUM,
    PROMPT,
    TEXT,
    apply,
    expect_near,
    expect_refused,
    make_datum,
    step,
)
from loops_mock.contract.rule import NotOffered, expect, rule
from loops_mock.contract.subject import Subject

_BEYOND: Final = 10**9
"""No vocabulary has so many tokens."""

_STAY: Final = ADAM.model_copy(update={"learning_rate": 0.0})


@dataclass(frozen=True, slots=True)
class Bad:
    """A wrong call.

    Attributes:
        what: the end of the rule's id.
        title: the promise.
        section: of the page.
        act: makes the call.
        names: what the message has to name.
    """

    what: str
    title: str
    section: str
    act: Callable[[TrainingClient], object]
    names: tuple[str, ...]


def _train(*data: Datum, **config: float | bool) -> Callable[[TrainingClient], object]:
    return lambda client: client.forward_backward(list(data), "cross_entropy", config or None)


def _with(**tensors: TensorData) -> Datum:
    return DATUM.model_copy(update={"loss_fn_inputs": {**DATUM.loss_fn_inputs, **tensors}})


def _ints(values: list[int]) -> TensorData:
    return TensorData.from_numpy(np.asarray(values, dtype=np.int64))


BAD: Final = (
    Bad(
        "unknown-settings",
        "A setting that the loss does not have is refused",
        "5.1",
        _train(DATUM, skip_normalization=True),
        ("skip_normalization",),
    ),
    Bad(
        "settings-of-another-type",
        "A setting of another type is refused",
        "5.1",
        _train(DATUM, skip_token_normalization=3.5),
        ("skip_token_normalization", "3.5"),
    ),
    Bad(
        "tokens-beyond-the-vocabulary",
        "An input token that the model does not have is refused, not read as another one",
        "5.1",
        _train(make_datum([3, _BEYOND, 4], targets=[4, 5])),
        (str(_BEYOND),),
    ),
    Bad(
        "negative-tokens",
        "A negative input token is refused",
        "5.1",
        _train(make_datum([3, -7, 4], targets=[4, 5])),
        ("-7",),
    ),
    Bad(
        "targets-beyond-the-vocabulary",
        "A target that the model does not have is refused",
        "5.1",
        _train(make_datum(TEXT, targets=[*TEXT[1:8], _BEYOND])),
        ("target_tokens", str(_BEYOND)),
    ),
    Bad(
        "negative-targets",
        "A negative target other than -100 is refused",
        "5.3",
        _train(make_datum(TEXT, targets=[*TEXT[1:8], -1])),
        ("target_tokens", "-1"),
    ),
    Bad(
        "targets-of-another-length",
        "Targets that are fewer than the positions are refused",
        "5.1",
        _train(_with(target_tokens=_ints([4, 5]))),
        ("target_tokens",),
    ),
    Bad(
        "targets-that-are-no-integers",
        "Targets that are no integers are refused",
        "5.1",
        _train(_with(target_tokens=TensorData.from_list([1.0] * 8))),
        ("target_tokens",),
    ),
    Bad(
        "weights-of-another-length",
        "Weights that are fewer than the targets are refused",
        "5.1",
        _train(_with(weights=TensorData.from_list([1.0, 2.0]))),
        ("weights",),
    ),
    Bad(
        "weights-that-are-not-finite",
        "A NaN among the weights is refused: it would ruin the adapter",
        "5.3",
        _train(_with(weights=TensorData.from_list([1.0, float("nan"), *[1.0] * 6]))),
        ("weights",),
    ),
    Bad(
        "inputs-that-no-loss-reads",
        "A misspelt input is refused",
        "5.1",
        _train(_with(wieghts=TensorData.from_list([1.0] * 8))),
        ("wieghts",),
    ),
    Bad(
        "data-without-tokens",
        "A datum without tokens is refused",
        "5.1",
        _train(Datum(model_input=ModelInput.empty())),
        ("model_input",),
    ),
    Bad(
        "targets-of-mixed-shapes",
        "Targets of shape (N,) and (N, K) in one batch are refused",
        "5.1",
        _train(DATUM, make_datum(TEXT, targets=[[3, 4]] * 8)),
        ("data",),
    ),
    Bad(
        "rank-0",
        "A rank below 1 is refused",
        "1.3",
        lambda client: client.init_trainer_server(0),
        ("rank", "0"),
    ),
    Bad(
        "ttl-0",
        "A time to live of 0 seconds is refused",
        "6.3",
        lambda client: client.save_state("brief", ttl_seconds=0),
        ("ttl_seconds", "0"),
    ),
    Bad(
        "addresses-that-are-none",
        "A client of a path that is no checkpoint's address is refused",
        "6.2",
        lambda client: client.create_sampling_client("bt://loops:x/else/y"),
        ("bt://loops:x/else/y",),
    ),
)
"""Calls that every trainer refuses."""


def _promise(bad: Bad) -> None:
    @rule(f"refusals.{bad.what}", title=bad.title, section=bad.section, needs={"train"})
    def refused(subject: Subject) -> None:
        """Make the call between a pass and its step: the step is as if it had not been made."""
        trainer = subject.trainer()
        before = step(trainer, [DATUM], _STAY)
        trainer.forward_backward([DATUM])
        expect_refused(bad.title, lambda: bad.act(trainer), *bad.names)
        after = apply(trainer, _STAY)
        expect_near("the pass before it is there", after["grad_norm"], before["grad_norm"])
        expect(after["step"] == 2.0, "nothing else was applied", metrics=after)

    del refused


for _bad in BAD:
    _promise(_bad)


def _base(subject: Subject) -> SamplingClient:
    return subject.service().create_sampling_client(base_model=subject.base_model)


def _ask(
    sampler: SamplingClient, prompt: list[int], num_samples: int = 1, **params: object
) -> Callable[[], object]:
    wish = SamplingParams.model_validate({"max_tokens": 1, **params})
    return lambda: sampler.sample(ModelInput.from_ints(prompt), num_samples, wish)


@rule(
    "refusals.samples-that-cannot-be",
    title="A sample without a prompt, of tokens that are none, or of none at all is refused",
    section="3.1",
    needs={"sample"},
)
def samples_that_cannot_be(subject: Subject) -> None:
    """Try each, and sample at the end."""
    sampler = _base(subject)
    expect_refused("no prompt", _ask(sampler, []), "prompt")
    expect_refused("a token beyond the vocabulary", _ask(sampler, [3, _BEYOND]), str(_BEYOND))
    expect_refused("no samples", _ask(sampler, [3], 0), "num_samples")
    expect_refused("a negative seed", _ask(sampler, [3], seed=-1), "seed")
    answer = sampler.sample(
        ModelInput.from_ints(list(PROMPT)), 1, SamplingParams(max_tokens=1, seed=1)
    )
    expect(len(answer.sequences) == 1, "the sampler goes on", seen=answer.sequences)


@rule(
    "refusals.prompts-beyond-the-context",
    title="A prompt longer than the model's context is refused, not cut",
    section="3.1",
    needs={"sample"},
)
def prompts_beyond_the_context(subject: Subject) -> None:
    """Ask with one token more than the service says that the model has positions for."""
    known = {
        model.model_name: model.max_context_length
        for model in subject.service().get_server_capabilities().supported_models
    }
    longest = known.get(subject.base_model)
    if longest is None or longest > 100_000:
        raise NotOffered("a context that is known and short enough to try")
    expect_refused("it is too long", _ask(_base(subject), [3] * (longest + 1)), "prompt")


@rule(
    "refusals.unknown-base-models",
    title="A base model that nobody knows is refused by name",
    section="1.3",
    needs={"train"},
)
def unknown_base_models(subject: Subject) -> None:
    """Ask for one."""
    from loops_core.errors import NotFoundError

    expect_refused(
        "nobody knows it",
        lambda: subject.service().create_lora_training_client("no-such-model"),
        "no-such-model",
        kinds=(NotFoundError,),
    )
