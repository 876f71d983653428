"""What a sampler promises about requests, turns, adapters, memory and ends."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# JAX types its functions in part.
from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from tests.numerics.cases import draw_factors

from loops_backend_jax.backend import JaxBackend
from loops_backend_jax.config import BackendSettings
from loops_backend_jax.lora.adapter import make_adapter_spec
from loops_backend_jax.resolvers.builtin import write_builtin_model
from loops_backend_jax.sample.cache import max_programs
from loops_backend_jax.sampler import JaxSampler
from loops_backend_jax.weights.load import BaseModel, load_base_model
from loops_backend_jax.weights.peft import save_peft
from loops_core.errors import CheckpointError, NotFoundError, UnsupportedError, UsageError
from loops_core.protocols import (
    SampledTokens,
    SampleOutcome,
    SampleRequest,
    SamplerSpec,
    TrainerSpec,
)

pytestmark = pytest.mark.slow  # the programs compile once for all

PROMPT = (5, 6, 7, 8)
REQUEST = SampleRequest(prompt=PROMPT, adapter_id=None, seed=0, max_tokens=6)
STEPS = 4


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_builtin_model(directory)
    return directory


@pytest.fixture(scope="module")
def base(model_dir: Path) -> BaseModel:
    return load_base_model(model_dir, BackendSettings(decode_steps=STEPS, max_sample_rows=2))


@pytest.fixture
def sampler(base: BaseModel, model_dir: Path) -> Iterator[JaxSampler]:
    opened = JaxSampler(base, SamplerSpec(base_model="test", model_dir=model_dir))
    yield opened
    opened.close()


def run(sampler: JaxSampler) -> list[SampleOutcome]:
    """Turn the sampler until nothing is left; return the outcomes in order of their end."""
    outcomes: list[SampleOutcome] = []
    for _ in range(10_000):
        found = sampler.step()
        outcomes += found
        if not found and not sampler.num_running:
            return outcomes
    raise AssertionError("the sampler does not come to an end")


def one(sampler: JaxSampler, request: SampleRequest) -> SampledTokens:
    """Return the first sequence of a request that runs alone."""
    handle = sampler.submit(request)
    (outcome,) = run(sampler)
    assert (outcome.handle, outcome.error) == (handle, None)
    return outcome.sequences[0]


def write_adapter(directory: Path, base: BaseModel, *, seed: int, size: float = 1.0) -> Path:
    """Write an adapter of random values and return its directory."""
    directory.mkdir()
    spec = make_adapter_spec(rank=2)
    factors = jax.tree.map(lambda x: x * size, draw_factors(base.config, spec, seed=seed))
    save_peft(directory, base.config, spec, factors, base_model="test")
    return directory


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


def test_a_short_request_does_not_wait_for_the_end_of_a_long_one(sampler: JaxSampler) -> None:
    long = sampler.submit(dataclasses.replace(REQUEST, max_tokens=40))
    short = sampler.submit(REQUEST)
    assert [outcome.handle for outcome in run(sampler)] == [short, long]


def test_requests_take_turns_by_pieces_of_work(sampler: JaxSampler) -> None:
    handles = [sampler.submit(dataclasses.replace(REQUEST, seed=seed)) for seed in range(3)]
    # Each takes one piece for its prompt, 4 tokens, and 2 more: the last pieces are 7, 8 and 9.
    finished = [[outcome.handle for outcome in sampler.step()] for _ in range(9)]
    assert finished == [[]] * 6 + [[handle] for handle in handles]


def test_an_idle_sampler_returns_nothing(sampler: JaxSampler) -> None:
    assert sampler.step() == []


def test_max_tokens_none_fills_the_context(base: BaseModel, model_dir: Path) -> None:
    spec = SamplerSpec(base_model="test", model_dir=model_dir, max_seq_len=24)
    sequence = one(JaxSampler(base, spec), dataclasses.replace(REQUEST, max_tokens=None))
    assert (len(sequence.tokens), sequence.stop_reason) == (20, "length")


def test_a_stop_token_ends_the_sequence_and_is_part_of_it(sampler: JaxSampler) -> None:
    tokens = one(sampler, REQUEST).tokens
    for number in (1, 4, 5):  # inside the first look, at the start of the second, at the very end
        request = dataclasses.replace(REQUEST, stop_token_ids=(tokens[number],))
        stopped = one(sampler, request)
        first = tokens.index(tokens[number])
        assert stopped.tokens == tokens[: first + 1]
        assert len(stopped.logprobs) == len(stopped.tokens)
        assert stopped.stop_reason == "stop"


def test_the_models_own_end_ends_a_sequence(
    base: BaseModel, model_dir: Path, sampler: JaxSampler, tmp_path: Path
) -> None:
    tokens = one(sampler, REQUEST).tokens
    config = json.loads((model_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": 511_000}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokens[2]]}))
    other = JaxSampler(base, SamplerSpec(base_model="test", model_dir=tmp_path))
    stopped = one(other, REQUEST)
    assert stopped.tokens == tokens[: tokens.index(tokens[2]) + 1]
    assert stopped.stop_reason == "stop"
    assert stopped.text is None  # there is no tokenizer beside these files


def test_samples_of_one_request_end_on_their_own(sampler: JaxSampler) -> None:
    request = dataclasses.replace(REQUEST, num_samples=3, max_tokens=9)
    sampler.submit(request)
    (free,) = run(sampler)
    stop = free.sequences[0].tokens[2]
    sampler.submit(dataclasses.replace(request, stop_token_ids=(stop,)))
    (cut,) = run(sampler)
    for whole, part in zip(free.sequences, cut.sequences, strict=True):
        end = whole.tokens.index(stop) + 1 if stop in whole.tokens else len(whole.tokens)
        assert part.tokens == whole.tokens[:end]
        assert part.logprobs == whole.logprobs[:end]


def test_a_stop_string_is_cut_from_text_and_tokens(sampler: JaxSampler) -> None:
    request = dataclasses.replace(REQUEST, max_tokens=12)
    whole = one(sampler, request)
    assert whole.text
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]  # likely across tokens
    stopped = one(sampler, dataclasses.replace(request, stop_strings=(stop,)))
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.stop_reason == "stop"
    assert stopped.tokens == whole.tokens[: len(stopped.tokens)]
    assert len(stopped.tokens) < len(whole.tokens)


def test_stop_strings_are_refused_without_a_tokenizer(base: BaseModel, tmp_path: Path) -> None:
    sampler = JaxSampler(base, SamplerSpec(base_model="test", model_dir=tmp_path))
    assert not sampler.describe().has_tokenizer
    assert "stop_strings" not in sampler.describe().features
    with pytest.raises(UnsupportedError, match="stop_strings"):
        sampler.submit(dataclasses.replace(REQUEST, stop_strings=("x",)))


def test_a_prompt_of_one_token_has_one_unknown_logprob(sampler: JaxSampler) -> None:
    sampler.submit(dataclasses.replace(REQUEST, prompt=(5,), top_k_prompt_logprobs=2))
    (outcome,) = run(sampler)
    assert outcome.prompt_logprobs == (None,)
    assert len(outcome.sequences[0].tokens) == 6


def test_prompt_logprobs_come_only_when_asked_for(sampler: JaxSampler) -> None:
    sampler.submit(REQUEST)
    (outcome,) = run(sampler)
    assert outcome.prompt_logprobs is None


def test_a_cancelled_request_gives_its_memory_back_at_once(sampler: JaxSampler) -> None:
    one(sampler, REQUEST)  # what stays, such as constants of programs, is there now
    before = live_bytes()
    handle = sampler.submit(dataclasses.replace(REQUEST, max_tokens=100, num_samples=2))
    for _ in range(3):
        assert sampler.step() == []
    assert live_bytes() > before
    sampler.cancel(handle)
    assert live_bytes() == before
    assert run(sampler) == []
    sampler.cancel(handle)


def test_a_finished_request_leaves_no_memory_behind(sampler: JaxSampler) -> None:
    one(sampler, REQUEST)
    before = live_bytes()
    one(sampler, dataclasses.replace(REQUEST, num_samples=3, max_tokens=100))
    assert live_bytes() == before


def test_a_request_keeps_the_adapter_it_named(
    base: BaseModel, sampler: JaxSampler, tmp_path: Path
) -> None:
    first = write_adapter(tmp_path / "first", base, seed=1)
    second = write_adapter(tmp_path / "second", base, seed=2)
    request = dataclasses.replace(REQUEST, adapter_id="a")
    sampler.load_adapter("a", first)
    expected = one(sampler, request)
    assert expected != one(sampler, REQUEST)

    running = sampler.submit(request)
    sampler.step()
    sampler.drop_adapter("a")
    with pytest.raises(NotFoundError, match="'a'"):
        sampler.submit(request)
    sampler.load_adapter("a", second)
    later = sampler.submit(request)
    outcomes = {outcome.handle: outcome.sequences[0] for outcome in run(sampler)}
    assert outcomes[running] == expected
    assert outcomes[later] != expected


def test_a_loaded_id_stays_as_it_is(base: BaseModel, sampler: JaxSampler, tmp_path: Path) -> None:
    sampler.load_adapter("a", write_adapter(tmp_path / "first", base, seed=1))
    before = one(sampler, dataclasses.replace(REQUEST, adapter_id="a"))
    sampler.load_adapter("a", tmp_path / "nowhere")
    assert one(sampler, dataclasses.replace(REQUEST, adapter_id="a")) == before
    sampler.drop_adapter("unknown")


def test_weights_without_probabilities_end_their_request_only(
    base: BaseModel, sampler: JaxSampler, tmp_path: Path
) -> None:
    sampler.load_adapter("wild", write_adapter(tmp_path / "wild", base, seed=1, size=1e30))
    wild = sampler.submit(dataclasses.replace(REQUEST, adapter_id="wild"))
    calm = sampler.submit(REQUEST)
    outcomes = {outcome.handle: outcome for outcome in run(sampler)}
    assert isinstance(outcomes[wild].error, CheckpointError)
    assert "'wild'" in str(outcomes[wild].error)
    assert outcomes[calm].error is None
    assert len(outcomes[calm].sequences[0].tokens) == 6


def test_caches_of_younger_requests_wait_for_room(base: BaseModel, model_dir: Path) -> None:
    config = base.config
    row_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_size * 64 * 4
    settings = dataclasses.replace(base.settings, max_cache_bytes=4 * row_bytes)
    spec = SamplerSpec(base_model="test", model_dir=model_dir)
    sampler = JaxSampler(dataclasses.replace(base, settings=settings), spec)
    request = dataclasses.replace(REQUEST, num_samples=2, max_tokens=20)
    handles = [sampler.submit(dataclasses.replace(request, seed=seed)) for seed in range(5)]
    most, order = 0, list[int]()
    while sampler.num_running:
        order += [outcome.handle for outcome in sampler.step()]
        most = max(most, sampler.held_cache_bytes)
    assert order == handles
    # The bound, and what the oldest, which never waits, may take: a prompt and two rows.
    assert most <= (4 + 3) * row_bytes


def test_programs_stay_within_the_bound_and_are_used_again(
    base: BaseModel, sampler: JaxSampler
) -> None:
    def requests() -> list[SampleRequest]:
        rng = np.random.default_rng(0)
        return [
            SampleRequest(
                prompt=tuple(rng.integers(0, 512, length).tolist()),
                adapter_id=None,
                seed=length,
                num_samples=num_samples,
                max_tokens=max_tokens,
                temperature=length / 10,
                top_k=length,
            )
            for length, num_samples, max_tokens in [(3, 1, 9), (9, 2, 4), (20, 1, 7), (30, 2, 3)]
        ]

    for request in requests():
        one(sampler, request)
    needed = sampler.num_programs
    assert needed == 3  # pieces of 32, and 1 or 2 rows, of 64 slots
    for request in requests():
        one(sampler, request)
    assert sampler.num_programs == needed
    assert needed <= max_programs(512, max_rows=2, max_piece=base.settings.max_prompt_piece)


def test_sampler_and_trainer_of_a_backend_share_the_frozen_weights(model_dir: Path) -> None:
    backend = JaxBackend(BackendSettings())
    backend.open_trainer(TrainerSpec(base_model="test", model_dir=model_dir))
    before = live_bytes()
    backend.open_sampler(SamplerSpec(base_model="test", model_dir=model_dir))
    assert live_bytes() == before
    backend.close()


@pytest.mark.parametrize("max_seq_len", [0, 1, 513])
def test_a_context_beyond_the_models_is_refused(
    base: BaseModel, model_dir: Path, max_seq_len: int
) -> None:
    spec = SamplerSpec(base_model="test", model_dir=model_dir, max_seq_len=max_seq_len)
    with pytest.raises(UsageError, match=f"max_seq_len is {max_seq_len}; expected 2 to 512"):
        JaxSampler(base, spec)


def test_a_closed_sampler_refuses_by_name(base: BaseModel, model_dir: Path) -> None:
    sampler = JaxSampler(base, SamplerSpec(base_model="test", model_dir=model_dir))
    sampler.submit(REQUEST)
    sampler.close()
    sampler.close()
    assert sampler.step() == []
    with pytest.raises(UsageError, match="closed"):
        sampler.submit(REQUEST)
    with pytest.raises(UsageError, match="closed"):
        sampler.load_adapter("a", model_dir)
