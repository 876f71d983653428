"""Rules of log-probabilities: trainer, samples and scored prompts agree."""

from __future__ import annotations

import numpy as np

from loops_core import ModelInput, SamplingParams
from loops_mock.contract.probes import (
    PROMPT,
    TEXT,
    expect_near,
    look,
    make_datum,
    publish,
    score,
    step,
)
from loops_mock.contract.rule import NotOffered, expect, rule
from loops_mock.contract.subject import Subject

_SAMPLE = {"sample"}
_BOTH = {"train", "sample"}


@rule(
    "logprobs.of-samples-are-the-trainers",
    title="Log-probabilities of sampled tokens are those that a forward pass gives them",
    section="3.2",
    needs=_BOTH,
)
def of_samples_are_the_trainers(subject: Subject) -> None:
    """Draw from a trained adapter, and run what was drawn through the trainer."""
    trainer = subject.trainer()
    step(trainer)
    wish = SamplingParams(max_tokens=5, seed=1)
    answer = publish(trainer).sample(ModelInput.from_ints(list(PROMPT)), 2, wish)
    data = [make_datum([*PROMPT, *sequence.tokens]) for sequence in answer.sequences]
    for sequence, output in zip(
        answer.sequences, trainer.forward(data).result().loss_fn_outputs, strict=True
    ):
        expected = output["logprobs"].to_numpy()[-len(sequence.tokens) :]
        expect_near("sampler and trainer agree", sequence.logprobs or [], expected)


@rule(
    "logprobs.of-samples-are-of-the-raw-distribution",
    title="Log-probabilities of samples are those of temperature 1, whatever the temperature",
    section="4.5",
    needs=_SAMPLE,
)
def of_samples_are_of_the_raw_distribution(subject: Subject) -> None:
    """Draw at temperature 0.5, and score what was drawn as a prompt."""
    sampler = subject.service().create_sampling_client(base_model=subject.base_model)
    wish = SamplingParams(max_tokens=4, seed=1, temperature=0.5)
    (sequence,) = sampler.sample(ModelInput.from_ints(list(PROMPT)), 1, wish).sequences
    expected = score(sampler, [*PROMPT, *sequence.tokens])[-len(sequence.tokens) :]
    expect_near("they are those of the scored text", sequence.logprobs or [], expected)


@rule(
    "logprobs.of-prompts-start-with-none",
    title="A prompt has one log-probability a token; the first is None",
    section="3.4",
    needs=_SAMPLE,
)
def of_prompts_start_with_none(subject: Subject) -> None:
    """Score a text."""
    sampler = subject.service().create_sampling_client(base_model=subject.base_model)
    found = sampler.compute_logprobs(ModelInput.from_ints(list(TEXT)))
    expect(len(found) == len(TEXT), "one a token", seen=len(found))
    expect(found[0] is None, "nothing is before the first", seen=found[0])
    expect(all(value is not None and value < 0 for value in found[1:]), "below 0", seen=found)


@rule(
    "logprobs.of-prompts-are-the-trainers",
    title="compute_logprobs gives what a forward pass gives the same text",
    section="3.4",
    needs=_BOTH,
)
def of_prompts_are_the_trainers(subject: Subject) -> None:
    """Score a text with a trained adapter in both."""
    trainer = subject.trainer()
    step(trainer)
    expect_near("both agree", score(publish(trainer)), look(trainer))


@rule(
    "logprobs.come-with-a-sample",
    title="include_prompt_logprobs gives with a sample what compute_logprobs gives",
    section="3.4",
    needs=_SAMPLE,
)
def come_with_a_sample(subject: Subject) -> None:
    """Ask for both."""
    sampler = subject.service().create_sampling_client(base_model=subject.base_model)
    prompt, wish = ModelInput.from_ints(list(TEXT)), SamplingParams(max_tokens=1, seed=1)
    found = sampler.sample(prompt, 1, wish, include_prompt_logprobs=True).prompt_logprobs or []
    values = [np.nan if value is None else value for value in found]
    expect_near("both are the same", values[1:], score(sampler))
    plain = sampler.sample(prompt, 1, wish)
    expect(plain.prompt_logprobs is None, "who does not ask gets none", seen=plain.prompt_logprobs)


@rule(
    "logprobs.top-k-of-prompts-hold-the-best",
    title="topk_prompt_logprobs holds the k likeliest tokens of each position, and the actual one",
    section="3.4",
    needs=_SAMPLE,
)
def top_k_of_prompts_hold_the_best(subject: Subject) -> None:
    """Ask for three; the actual token may be a fourth."""
    sampler = subject.service().create_sampling_client(base_model=subject.base_model)
    prompt, wish = ModelInput.from_ints(list(TEXT)), SamplingParams(max_tokens=1, seed=1)
    answer = sampler.sample(prompt, 1, wish, include_prompt_logprobs=True, topk_prompt_logprobs=3)
    ranked, plain = answer.topk_prompt_logprobs, answer.prompt_logprobs
    if ranked is None or plain is None:
        raise NotOffered("the most likely tokens of a prompt's positions")
    for token, pairs, logprob in zip(TEXT[1:], ranked[1:], plain[1:], strict=True):
        found = dict(pairs or [])
        expect(len(found) in (3, 4) and token in found, "three, and the actual", seen=found)
        expect_near("the actual one's is the plain one", found[token], logprob or 0.0)
        rest = sorted((value for key, value in found.items() if key != token), reverse=True)
        most = sum(np.exp(list(found.values())))
        expect(most <= 1 + 1e-4, "probabilities sum to 1 at most", seen=found)
        if len(found) == 4:
            expect(rest[-1] >= found[token] - 1e-6, "no listed one is less likely", seen=found)
