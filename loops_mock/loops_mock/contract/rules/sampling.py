"""Rules of sampling: temperature, seeds, lengths, stops, and what restricts the choice."""

from __future__ import annotations

import numpy as np

from loops_core import ModelInput, SamplingClient, SamplingParams
from loops_mock.contract.probes import (
    ADAM,
    DATUM,
    PROMPT,
    draw,
    expect_near,
    make_datum,
    publish,
    step,
)
from loops_mock.contract.rule import NotOffered, expect, rule
from loops_mock.contract.subject import Subject

_SAMPLE = {"sample"}
_BOTH = {"train", "sample"}
_SEED = 11
_MANY = 256


def _base(subject: Subject) -> SamplingClient:
    return subject.service().create_sampling_client(base_model=subject.base_model)


def _trained(subject: Subject) -> SamplingClient:
    """Return a sampler whose next token after the prompt is likely, but not certain."""
    trainer = subject.trainer()
    for _ in range(2):
        step(trainer, [DATUM], ADAM.model_copy(update={"learning_rate": 4e-3}))
    return publish(trainer)


def _most_likely(sampler: SamplingClient, k: int) -> dict[int, float]:
    """Return the k most likely tokens after the prompt, with their log-probabilities."""
    prompt = ModelInput.from_ints([*PROMPT, 5])
    wish = SamplingParams(max_tokens=1, seed=1)
    answer = sampler.sample(prompt, 1, wish, include_prompt_logprobs=True, topk_prompt_logprobs=k)
    pairs = (answer.topk_prompt_logprobs or [None])[-1]
    if not pairs:
        raise NotOffered("the most likely tokens of a prompt's positions")
    return dict(sorted(pairs, key=lambda pair: -pair[1])[:k])


@rule(
    "sampling.temperature-0-takes-the-most-likely",
    title="Temperature 0 takes the most likely token at each position",
    section="4.4",
    needs=_SAMPLE,
)
def temperature_0_takes_the_most_likely(subject: Subject) -> None:
    """Draw four tokens, and ask for the most likely one at each of their positions."""
    sampler = _base(subject)
    (tokens,) = draw(sampler, temperature=0.0)
    text = ModelInput.from_ints([*PROMPT, *tokens])
    wish = SamplingParams(max_tokens=1, seed=1)
    answer = sampler.sample(text, 1, wish, include_prompt_logprobs=True, topk_prompt_logprobs=1)
    pairs = answer.topk_prompt_logprobs
    if pairs is None:
        raise NotOffered("the most likely tokens of a prompt's positions")
    for token, ranked in zip(tokens, pairs[len(PROMPT) :], strict=True):
        logprobs = dict(ranked or [])
        best = max(logprobs.values())
        expect(logprobs[token] >= best - 1e-4, "no token is more likely", token=token, seen=ranked)


@rule(
    "sampling.temperature-0-repeats",
    title="Temperature 0 gives the same tokens whatever the seed",
    section="4.4",
    needs=_SAMPLE,
)
def temperature_0_repeats(subject: Subject) -> None:
    """Draw with two seeds, and two samples at once."""
    sampler = _base(subject)
    one = draw(sampler, 2, temperature=0.0, seed=1)
    two = draw(sampler, 1, temperature=0.0, seed=2)
    expect(one[0] == one[1] == two[0], "all are the same", seen=[*one, *two])


@rule(
    "sampling.temperature-scales-the-distribution",
    title="Temperature T draws tokens with probabilities in proportion to p ** (1 / T)",
    section="4.4",
    needs=_BOTH,
)
def temperature_scales_the_distribution(subject: Subject) -> None:
    """Compare counts of the five most likely tokens with what two temperatures make of them."""
    sampler = _trained(subject)
    known = _most_likely(sampler, 5)
    logprobs = np.asarray(list(known.values()))
    for temperature in (0.5, 1.0):
        drawn = draw(sampler, _MANY, temperature=temperature, seed=_SEED, max_tokens=1)
        counts = np.asarray([sum(t == [token] for t in drawn) for token in known], dtype=float)
        odds = np.exp((logprobs - logprobs.max()) / temperature)
        expected = counts.sum() * odds / odds.sum()
        spread = np.sqrt(expected * (1 - odds / odds.sum())) + 1
        off = float(np.abs((counts - expected) / spread).max())
        # Five standard deviations: one honest server in a million fails.
        expect(off < 5, f"T = {temperature}", counts=counts.tolist(), expected=expected.tolist())


@rule(
    "sampling.a-low-temperature-sharpens",
    title="A low temperature draws likely tokens, a high one draws others too",
    section="4.4",
    needs=_BOTH,
)
def a_low_temperature_sharpens(subject: Subject) -> None:
    """Count different tokens of 64 at temperatures 0.05 and 5."""
    sampler = _trained(subject)
    sharp, flat = (
        len({tuple(t) for t in draw(sampler, 64, temperature=t, seed=_SEED, max_tokens=1)})
        for t in (0.05, 5.0)
    )
    expect(sharp < flat, "a low temperature draws fewer tokens", sharp=sharp, flat=flat)
    expect(flat >= 16, "a high temperature draws many", flat=flat)


@rule(
    "sampling.a-seed-repeats",
    title="The same request with the same seed gives the same tokens and log-probabilities",
    section="4.4",
    needs=_SAMPLE,
)
def a_seed_repeats(subject: Subject) -> None:
    """Draw three sequences twice."""
    sampler = _base(subject)
    wish = SamplingParams(max_tokens=4, seed=_SEED)
    one, two = (sampler.sample(ModelInput.from_ints(list(PROMPT)), 3, wish) for _ in range(2))
    tokens = [[sequence.tokens for sequence in answer.sequences] for answer in (one, two)]
    expect(tokens[0] == tokens[1], "the tokens are the same", seen=tokens)
    for left, right in zip(one.sequences, two.sequences, strict=True):
        expect_near("so are the log-probabilities", left.logprobs or [], right.logprobs or [])


@rule(
    "sampling.another-seed-draws-others",
    title="Another seed gives other samples",
    section="4.4",
    needs=_SAMPLE,
)
def another_seed_draws_others(subject: Subject) -> None:
    """Draw four sequences of four tokens with two seeds."""
    sampler = _base(subject)
    one, two = (draw(sampler, 4, seed=seed, temperature=2.0) for seed in (1, 2))
    expect(one != two, "the samples differ", one=one, two=two)


@rule(
    "sampling.no-seed-draws-anew",
    title="Without a seed each request draws anew",
    section="4.4",
    needs=_SAMPLE,
)
def no_seed_draws_anew(subject: Subject) -> None:
    """Draw four sequences of four tokens twice."""
    sampler = _base(subject)
    one, two = (draw(sampler, 4, temperature=2.0) for _ in range(2))
    expect(one != two, "the samples differ", one=one, two=two)


@rule(
    "sampling.samples-of-a-request-differ",
    title="num_samples sequences come back, and they are not copies of one",
    section="3.1",
    needs=_SAMPLE,
)
def samples_of_a_request_differ(subject: Subject) -> None:
    """Draw eight sequences under one seed."""
    drawn = draw(_base(subject), 8, temperature=2.0, seed=_SEED)
    expect(len(drawn) == 8, "there are as many as asked for", seen=len(drawn))
    expect(len({tuple(tokens) for tokens in drawn}) > 1, "they differ", seen=drawn)


@rule(
    "sampling.max-tokens-is-the-length",
    title="A sequence without a stop has max_tokens tokens, and ends for its length",
    section="4.4",
    needs=_SAMPLE,
)
def max_tokens_is_the_length(subject: Subject) -> None:
    """Draw one token and three."""
    sampler = _base(subject)
    for length in (1, 3):
        wish = SamplingParams(max_tokens=length, seed=_SEED)
        for sequence in sampler.sample(ModelInput.from_ints(list(PROMPT)), 2, wish).sequences:
            seen = (len(sequence.tokens), len(sequence.logprobs or []), sequence.stop_reason)
            stopped = sequence.stop_reason == "stop" and seen[0] <= length
            expect(stopped or seen == (length, length, "length"), "the length is met", seen=seen)


@rule(
    "sampling.what-is-cut-off-says-so",
    title="A sequence that max_tokens has cut off ends for its length, not for a stop",
    section="4.4",
    needs=_SAMPLE,
)
def what_is_cut_off_says_so(subject: Subject) -> None:
    """Draw eight sequences of one token: no model ends all of them at once."""
    wish = SamplingParams(max_tokens=1, seed=_SEED)
    answer = _base(subject).sample(ModelInput.from_ints(list(PROMPT)), 8, wish)
    reasons = [sequence.stop_reason for sequence in answer.sequences]
    expect("length" in reasons, "some are cut off", seen=reasons)


@rule(
    "sampling.the-prompt-is-not-repeated",
    title="Sequences hold new tokens alone, and prompt_token_ids the prompt",
    section="4.5",
    needs=_SAMPLE,
)
def the_prompt_is_not_repeated(subject: Subject) -> None:
    """Draw greedily after the prompt, and after the prompt with its own first token."""
    sampler = _base(subject)
    (tokens,) = draw(sampler, temperature=0.0, max_tokens=4)
    answer = sampler.sample(
        ModelInput.from_ints([*PROMPT, tokens[0]]),
        1,
        SamplingParams(max_tokens=3, temperature=0.0),
    )
    (rest,) = answer.sequences
    expect(rest.tokens == tokens[1:], "it goes on after the prompt", seen=rest.tokens)
    told = answer.prompt_token_ids
    expect(told in (None, [*PROMPT, tokens[0]]), "the prompt is told", seen=told)


@rule(
    "sampling.a-stop-token-ends-a-sequence",
    title="A sequence ends with the first stop token, which is part of it, for the reason stop",
    section="4.4",
    needs={"sample", "stop_tokens"},
)
def a_stop_token_ends_a_sequence(subject: Subject) -> None:
    """Draw greedily, then stop at the third of those tokens."""
    sampler = _base(subject)
    (tokens,) = draw(sampler, temperature=0.0, max_tokens=4)
    stop = tokens[2]
    expected = tokens[: tokens.index(stop) + 1]
    wish = SamplingParams(max_tokens=4, temperature=0.0, stop=[stop])
    (sequence,) = sampler.sample(ModelInput.from_ints(list(PROMPT)), 1, wish).sequences
    seen = sequence.tokens
    expect(seen == expected, "it ends with the stop token", seen=seen, expected=expected)
    expect(sequence.stop_reason == "stop", "the reason is stop", seen=sequence.stop_reason)


@rule(
    "sampling.top-k-restricts",
    title="top_k draws from the k most likely tokens alone",
    section="4.4",
    needs={"train", "sample", "top_k"},
)
def top_k_restricts(subject: Subject) -> None:
    """Draw 64 tokens at a high temperature with top_k 2."""
    sampler = _trained(subject)
    best = set(_most_likely(sampler, 2))
    drawn = {t for (t,) in draw(sampler, 64, top_k=2, temperature=3.0, seed=1, max_tokens=1)}
    expect(drawn == best, "the two most likely are drawn", drawn=sorted(drawn), best=sorted(best))


@rule(
    "sampling.top-k-1-is-greedy",
    title="top_k 1 draws the most likely token",
    section="4.4",
    needs={"sample", "top_k"},
)
def top_k_1_is_greedy(subject: Subject) -> None:
    """Compare with temperature 0."""
    sampler = _base(subject)
    one, two = draw(sampler, top_k=1, seed=3), draw(sampler, temperature=0.0)
    expect(one == two, "both are the same", top_k=one, greedy=two)


@rule(
    "sampling.top-p-restricts",
    title="top_p draws from the fewest likely tokens whose probabilities sum to it",
    section="4.4",
    needs={"train", "sample", "top_p"},
)
def top_p_restricts(subject: Subject) -> None:
    """Set top_p between the first token's probability and that of the first two."""
    sampler = _trained(subject)
    ranked = _most_likely(sampler, 3)
    first, second = np.exp(list(ranked.values()))[:2]
    drawn = {
        token
        for (token,) in draw(sampler, 64, top_p=float(first + second / 2), seed=1, max_tokens=1)
    }
    allowed = set(list(ranked)[:2])
    expect(drawn <= allowed, "no other token is drawn", drawn=sorted(drawn), allowed=ranked)
    expect(len(drawn) == 2, "both are drawn", drawn=sorted(drawn))


@rule(
    "sampling.a-tiny-top-p-is-greedy",
    title="top_p close to 0 draws the most likely token",
    section="4.4",
    needs={"sample", "top_p"},
)
def a_tiny_top_p_is_greedy(subject: Subject) -> None:
    """Compare with temperature 0."""
    sampler = _base(subject)
    one, two = draw(sampler, top_p=1e-6, seed=3), draw(sampler, temperature=0.0)
    expect(one == two, "both are the same", top_p=one, greedy=two)


@rule(
    "sampling.requests-do-not-mix",
    title="A seeded sample is the same whatever else was sampled before and with it",
    section="3.1",
    needs=_SAMPLE,
)
def requests_do_not_mix(subject: Subject) -> None:
    """Draw it alone, after other requests, and as the first of three."""
    sampler = _base(subject)
    alone = draw(sampler, 1, seed=_SEED)
    draw(sampler, 4, prompt=(5, 6, 7, 8), seed=2)
    again = draw(sampler, 1, seed=_SEED)
    first = draw(sampler, 3, seed=_SEED)[:1]
    expect(alone == again == first, "the tokens are the same", seen=[alone, again, first])


@rule(
    "sampling.prompts-are-read",
    title="What is sampled depends on the prompt",
    section="3.1",
    needs=_SAMPLE,
)
def prompts_are_read(subject: Subject) -> None:
    """Draw under one seed after two prompts."""
    sampler = _base(subject)
    one, two = (
        draw(sampler, 4, prompt=prompt, seed=_SEED, temperature=1.0)
        for prompt in (PROMPT, (20, 21, 22, 23))
    )
    expect(one != two, "the samples differ", one=one, two=two)


@rule(
    "sampling.a-text-that-repeats-is-not-cut",
    title="New tokens that begin like the prompt are all returned",
    section="3.2",
    needs=_BOTH,
)
def a_text_that_repeats_is_not_cut(subject: Subject) -> None:
    """Train a text of one token, so that after this token it is the most likely one."""
    trainer = subject.trainer()
    for _ in range(3):
        step(trainer, [make_datum([5] * 9)], ADAM.model_copy(update={"learning_rate": 1e-2}))
    (tokens,) = draw(publish(trainer), prompt=[5], temperature=0.0, max_tokens=3)
    expect(len(tokens) == 3, "three tokens were asked for", seen=tokens)


@rule(
    "sampling.a-seeded-text-can-be-continued",
    title="A sampled token depends on seed, number and position: a prompt and its first new tokens"
    " go on alike",
    section="4.4",
    needs=_SAMPLE,
)
def a_seeded_text_can_be_continued(subject: Subject) -> None:
    """Draw four tokens; then give the first of them with the prompt."""
    sampler = _base(subject)
    (tokens,) = draw(sampler, seed=_SEED, temperature=1.0, max_tokens=4)
    (rest,) = draw(sampler, prompt=[*PROMPT, tokens[0]], seed=_SEED, temperature=1.0, max_tokens=3)
    expect(rest == tokens[1:], "it goes on alike", first=tokens, then=rest)
