"""What the sampler promises: tokens that their key fixes, and the trainer's logprobs for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from loops_core.errors import CheckpointError, NotFoundError, UsageError
from loops_core.protocols import SampleOutcome, SampleRequest
from loops_core.types.datum import Datum
from loops_mock.sampler import MAX_SEQUENCES_PER_STEP, MockSampler
from loops_mock.text import to_text
from loops_mock.trainer import MockTrainer

PROMPT = (1, 2, 3)


def request(**fields: object) -> SampleRequest:
    defaults: dict[str, object] = {
        "prompt": PROMPT,
        "adapter_id": None,
        "seed": 5,
        "max_tokens": 6,
    }
    return SampleRequest(**{**defaults, **fields})  # type: ignore[arg-type]  # fields of the class


def run_all(sampler: MockSampler, *requests: SampleRequest) -> list[SampleOutcome]:
    """Return the outcomes in the order of the requests."""
    handles = [sampler.submit(r) for r in requests]
    found: dict[int, SampleOutcome] = {}
    while len(found) < len(handles):
        found.update((outcome.handle, outcome) for outcome in sampler.step())
    return [found[handle] for handle in handles]


def tokens_of(sampler: MockSampler, **fields: object) -> list[tuple[int, ...]]:
    return [s.tokens for s in run_all(sampler, request(**fields))[0].sequences]


@pytest.fixture
def adapter(trainer: MockTrainer, tmp_path: Path) -> Path:
    path = tmp_path / "adapter"
    path.mkdir()
    trainer.export_adapter(path)
    return path


def test_logprobs_are_those_of_the_trainer(
    sampler: MockSampler,
    trainer: MockTrainer,
    adapter: Path,
    make_datum: Callable[..., Datum],
) -> None:
    sampler.load_adapter("a", adapter)
    settings: list[dict[str, float]] = [
        {"temperature": 0.0},
        {"temperature": 0.7},
        {"temperature": 2.0, "top_k": 4, "top_p": 0.8},
    ]
    for fields in settings:
        outcome = run_all(sampler, request(adapter_id="a", num_samples=2, **fields))
        for sequence in outcome[0].sequences:
            text = [*PROMPT, *sequence.tokens]
            targets = [-100, -100, *sequence.tokens]
            output = trainer.forward(
                [make_datum(text[:-1], targets)], loss_fn="cross_entropy", loss_fn_config={}
            )
            # The same bytes, not only close: both run one row at a time through one function.
            assert list(sequence.logprobs) == output.loss_fn_outputs[0]["logprobs"].tolist()[2:]


def test_prompt_logprobs_are_those_of_the_trainer(
    sampler: MockSampler,
    trainer: MockTrainer,
    adapter: Path,
    make_datum: Callable[..., Datum],
) -> None:
    sampler.load_adapter("a", adapter)
    prompt = (1, 2, 3, 4, 0)
    [outcome] = run_all(sampler, request(prompt=prompt, adapter_id="a", top_k_prompt_logprobs=0))
    output = trainer.forward([make_datum(list(prompt))], loss_fn="cross_entropy", loss_fn_config={})
    assert outcome.prompt_logprobs is not None
    first, *others = outcome.prompt_logprobs
    assert first is None
    pairs = [entry[0] for entry in others if entry is not None]
    assert [token for token, _ in pairs] == list(prompt[1:])
    assert [logprob for _, logprob in pairs] == output.loss_fn_outputs[0]["logprobs"].tolist()[:-1]


def test_prompt_logprobs_name_the_actual_token_and_then_the_most_likely(
    sampler: MockSampler,
) -> None:
    [outcome] = run_all(sampler, request(top_k_prompt_logprobs=3))
    assert outcome.prompt_logprobs is not None
    for actual, entry in zip(PROMPT[1:], outcome.prompt_logprobs[1:], strict=True):
        assert entry is not None
        best = [logprob for token, logprob in entry if token != actual]
        assert entry[0][0] == actual
        assert best == sorted(best, reverse=True)
        assert len(entry) in (3, 4)
        assert len({token for token, _ in entry}) == len(entry)


def test_no_prompt_logprobs_unless_asked(sampler: MockSampler) -> None:
    assert run_all(sampler, request())[0].prompt_logprobs is None


def test_tokens_are_a_function_of_the_seed(sampler: MockSampler) -> None:
    assert tokens_of(sampler, seed=1) == tokens_of(sampler, seed=1)
    assert len({tuple(tokens_of(sampler, seed=seed)[0]) for seed in range(8)}) > 1


def test_a_sample_does_not_depend_on_how_many_there_are(sampler: MockSampler) -> None:
    many = tokens_of(sampler, num_samples=5)
    assert many[:2] == tokens_of(sampler, num_samples=2)
    assert len(set(many)) > 1


def test_a_sample_does_not_depend_on_what_runs_beside_it(
    sampler: MockSampler, adapter: Path
) -> None:
    sampler.load_adapter("a", adapter)
    requests = [
        request(seed=seed, adapter_id=adapter_id, max_tokens=3 + seed)
        for seed in range(4)
        for adapter_id in (None, "a")
    ]
    together = run_all(sampler, *requests)
    alone = [run_all(sampler, r)[0] for r in requests]
    assert [o.sequences for o in together] == [o.sequences for o in alone]


def test_a_prompt_with_its_own_first_tokens_continues_alike(sampler: MockSampler) -> None:
    [whole] = tokens_of(sampler)
    [rest] = tokens_of(sampler, prompt=(*PROMPT, *whole[:2]), max_tokens=4)
    assert whole[2:] == rest


def test_temperature_zero_takes_the_most_likely_token(sampler: MockSampler) -> None:
    [greedy] = tokens_of(sampler, temperature=0.0)
    [almost] = tokens_of(sampler, temperature=1e-300, seed=9)
    assert greedy == almost
    prompt = (*PROMPT, *greedy)
    [outcome] = run_all(sampler, request(prompt=prompt, top_k_prompt_logprobs=1))
    assert outcome.prompt_logprobs is not None
    assert [len(entry or ()) for entry in outcome.prompt_logprobs[len(PROMPT) :]] == [1] * 6


def test_tokens_come_as_often_as_their_probability_says(sampler: MockSampler) -> None:
    count = 2000
    [outcome] = run_all(sampler, request(max_tokens=1, num_samples=count, temperature=1.0, seed=3))
    seen = Counter(sequence.tokens[0] for sequence in outcome.sequences)
    for token, logprob in {(s.tokens[0], s.logprobs[0]) for s in outcome.sequences}:
        p = math.exp(logprob)
        # Five standard deviations of a binomial count; the seed is fixed.
        assert abs(seen[token] - count * p) < 5 * math.sqrt(count * p * (1 - p))


def test_a_stop_token_ends_its_sequence_and_is_part_of_it(sampler: MockSampler) -> None:
    [free] = tokens_of(sampler)
    stop = free[2]
    [outcome] = run_all(sampler, request(stop_token_ids=(stop,)))
    [sequence] = outcome.sequences
    assert sequence.tokens == free[: free.index(stop) + 1]
    assert sequence.stop_reason == "stop"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_string_ends_its_sequence_and_is_no_part_of_it(
    sampler: MockSampler, length: int
) -> None:
    [free] = tokens_of(sampler)
    stop = to_text(free[2 : 2 + length])
    [outcome] = run_all(sampler, request(stop_strings=("never", stop)))
    [sequence] = outcome.sequences
    at = to_text(free).index(stop)
    assert (sequence.tokens, sequence.text) == (free[:at], to_text(free[:at]))
    assert len(sequence.logprobs) == at
    assert sequence.stop_reason == "stop"


def test_a_stop_string_is_not_looked_for_in_the_prompt(sampler: MockSampler) -> None:
    assert tokens_of(sampler, stop_strings=(to_text(PROMPT),)) == tokens_of(sampler)


def test_a_stop_token_goes_before_a_stop_string_that_ends_with_it(sampler: MockSampler) -> None:
    [free] = tokens_of(sampler)
    both = {"stop_token_ids": (free[2],), "stop_strings": (to_text(free[1:3]),)}
    [sequence] = run_all(sampler, request(**both))[0].sequences
    assert sequence.tokens == free[: free.index(free[2]) + 1]


def test_max_tokens_ends_a_sequence(sampler: MockSampler) -> None:
    [sequence] = run_all(sampler, request(max_tokens=2))[0].sequences
    assert (len(sequence.tokens), len(sequence.logprobs)) == (2, 2)
    assert (sequence.stop_reason, sequence.text) == ("length", to_text(sequence.tokens))


def test_the_end_of_the_context_ends_a_sequence(sampler: MockSampler) -> None:
    [tokens] = tokens_of(sampler, max_tokens=None)
    assert len(PROMPT) + len(tokens) == sampler.describe().max_seq_len


def test_more_tokens_than_the_context_has_are_refused(sampler: MockSampler) -> None:
    with pytest.raises(UsageError, match="max_tokens is 30; expected at most 29"):
        sampler.submit(request(max_tokens=30))


def test_a_step_draws_a_bounded_number_of_tokens(sampler: MockSampler) -> None:
    sampler.submit(request(max_tokens=1, num_samples=MAX_SEQUENCES_PER_STEP + 1))
    assert sampler.step() == []
    [outcome] = sampler.step()
    assert len(outcome.sequences) == MAX_SEQUENCES_PER_STEP + 1


def test_a_step_without_requests_returns_nothing(sampler: MockSampler) -> None:
    assert sampler.step() == []


def test_a_cancelled_request_has_no_outcome(sampler: MockSampler) -> None:
    handle = sampler.submit(request(max_tokens=1))
    sampler.cancel(handle)
    sampler.cancel(handle)
    assert sampler.step() == []


def test_a_request_keeps_its_adapter_when_it_is_dropped(
    sampler: MockSampler, adapter: Path
) -> None:
    sampler.load_adapter("a", adapter)
    expected = tokens_of(sampler, adapter_id="a")
    handle = sampler.submit(request(adapter_id="a"))
    sampler.step()
    sampler.drop_adapter("a")
    sampler.drop_adapter("a")
    outcomes: list[SampleOutcome] = []
    while not outcomes:
        outcomes = sampler.step()
    assert outcomes[0].handle == handle
    assert [s.tokens for s in outcomes[0].sequences] == expected
    with pytest.raises(NotFoundError, match="'a'"):
        sampler.submit(request(adapter_id="a"))


def test_a_loaded_id_is_left_as_it_is(sampler: MockSampler, adapter: Path, tmp_path: Path) -> None:
    sampler.load_adapter("a", adapter)
    sampler.load_adapter("a", tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="adapter_config"):
        sampler.load_adapter("b", tmp_path / "nowhere")


@pytest.mark.parametrize("prompt", [(), (1, -1), (1, 11), (1,) * 32])
def test_a_prompt_that_does_not_fit_is_refused(
    sampler: MockSampler, prompt: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match=r"prompt.*expected"):
        sampler.submit(request(prompt=prompt))


def test_close_may_be_called_twice(sampler: MockSampler) -> None:
    sampler.submit(request())
    sampler.close()
    sampler.close()
    assert sampler.step() == []
