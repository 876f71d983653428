"""The half of the backend's tests that is about its samplers."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import pytest

from loops_core.errors import NotFoundError
from loops_core.protocols import (
    Backend,
    SampledTokens,
    SampleOutcome,
    Sampler,
    SampleRequest,
    SamplerSpec,
    Trainer,
)
from loops_mock.strategies.program import Row

_REQUEST: Final = SampleRequest(prompt=(3, 4, 5), adapter_id=None, seed=1, max_tokens=4)
_MOST_STEPS: Final = 10_000


class SamplerContract:
    """The tests of a sampler; `BackendContract` has them."""

    base_model: ClassVar[str]
    loss_fn: ClassVar[str]

    def model_dir(self) -> Path:
        """Return the directory of the base model."""
        raise NotImplementedError

    @pytest.fixture
    def sampler(self, backend: Backend) -> Generator[Sampler]:
        """Open a sampler without adapters."""
        spec = SamplerSpec(base_model=self.base_model, model_dir=self.model_dir())
        opened = backend.open_sampler(spec)
        yield opened
        opened.close()
        opened.close()

    @pytest.fixture
    def exported(self, trainer: Trainer, tmp_path: Path) -> Path:
        """Return the directory of a trained adapter."""
        folder = tmp_path / "exported"
        folder.mkdir()
        trainer.export_adapter(folder)
        return folder

    def test_a_sampler_without_requests_has_nothing_to_do(self, sampler: Sampler) -> None:
        """Check that it says what it is, and turns without work."""
        assert sampler.step() == []
        assert sampler.describe() == sampler.describe()

    def test_a_sample_is_a_function_of_its_seed(self, sampler: Sampler) -> None:
        """Check that equal requests give equal tokens, and lengths are kept."""
        one, two = (draw(sampler, _REQUEST) for _ in range(2))
        assert one == two
        assert all(1 <= len(each.tokens) <= 4 for each in one)
        assert all(len(each.tokens) == len(each.logprobs) for each in one)
        assert all(value <= 0 for each in one for value in each.logprobs)

    def test_each_sample_of_a_request_is_its_own(self, sampler: Sampler) -> None:
        """Check that several sequences begin with those of fewer."""
        many = draw(sampler, replace(_REQUEST, num_samples=3))
        assert len(many) == 3
        assert [each.tokens for each in many[:1]] == [
            each.tokens for each in draw(sampler, _REQUEST)
        ]

    def test_temperature_0_takes_the_most_likely_token(self, sampler: Sampler) -> None:
        """Check that greedy sequences do not depend on the seed, and none is likelier."""
        greedy = [
            draw(sampler, replace(_REQUEST, temperature=0.0, seed=seed))[0] for seed in (1, 2)
        ]
        assert greedy[0].tokens == greedy[1].tokens
        others = draw(sampler, replace(_REQUEST, num_samples=8, max_tokens=1))
        assert all(each.logprobs[0] <= greedy[0].logprobs[0] + 1e-4 for each in others)

    def test_requests_do_not_see_each_other(self, sampler: Sampler) -> None:
        """Check that what runs beside a request changes none of its tokens."""
        other = replace(_REQUEST, prompt=(6, 6, 6, 6), seed=5, max_tokens=7, temperature=2.0)
        alone = draw(sampler, _REQUEST)
        handles = [sampler.submit(request) for request in (other, _REQUEST, other)]
        outcomes = finish(sampler, 3)
        beside = next(each for each in outcomes if each.handle == handles[1])
        assert [each.tokens for each in beside.sequences] == [each.tokens for each in alone]

    def test_a_cancelled_request_has_no_outcome(self, sampler: Sampler) -> None:
        """Check that it ends without a word, and the others go on."""
        cancelled, kept = sampler.submit(_REQUEST), sampler.submit(_REQUEST)
        sampler.cancel(cancelled)
        sampler.cancel(cancelled)
        assert [outcome.handle for outcome in finish(sampler, 1)] == [kept]
        assert sampler.step() == []

    def test_a_stop_token_ends_a_sequence_and_is_part_of_it(self, sampler: Sampler) -> None:
        """Check the reason of a stop, and of an end for length."""
        (whole,) = draw(sampler, replace(_REQUEST, temperature=0.0))
        stop = whole.tokens[0]
        (stopped,) = draw(sampler, replace(_REQUEST, temperature=0.0, stop_token_ids=(stop,)))
        assert (stopped.tokens, stopped.stop_reason) == ((stop,), "stop")
        assert len(whole.tokens) == 4 or whole.stop_reason == "stop"

    def test_an_adapter_answers_with_its_own_weights(
        self, sampler: Sampler, exported: Path, trainer: Trainer
    ) -> None:
        """Check that a sample's log-probabilities are those of the trainer's forward pass."""
        sampler.load_adapter("one", exported)
        sampler.load_adapter("one", exported)
        (drawn,) = draw(sampler, replace(_REQUEST, adapter_id="one"))
        text = (*_REQUEST.prompt, *drawn.tokens)
        output = trainer.forward(
            [Row(text[:-1], text[1:]).datum()], loss_fn=self.loss_fn, loss_fn_config={}
        )
        scored = output.loss_fn_outputs[0]["logprobs"].to_numpy()[len(_REQUEST.prompt) - 1 :]
        # float32 on both sides, sums in another order.
        np.testing.assert_allclose(drawn.logprobs, scored, atol=1e-4)

    def test_an_adapter_that_is_not_loaded_is_not_found(
        self, sampler: Sampler, exported: Path
    ) -> None:
        """Check unknown and dropped adapters."""
        request = replace(_REQUEST, adapter_id="one")
        with pytest.raises(NotFoundError):
            sampler.submit(request)
        sampler.load_adapter("one", exported)
        sampler.submit(request)
        sampler.drop_adapter("one")
        sampler.drop_adapter("one")
        assert len(finish(sampler, 1)) == 1, "a request keeps its adapter to its end"
        with pytest.raises(NotFoundError):
            sampler.submit(request)

    def test_prompt_logprobs_begin_with_none(self, sampler: Sampler) -> None:
        """Check that a prompt is scored where that is offered."""
        if "prompt_logprobs" not in sampler.describe().features:
            pytest.skip("the sampler scores no prompts")
        sampler.submit(replace(_REQUEST, top_k_prompt_logprobs=2))
        (outcome,) = finish(sampler, 1)
        assert outcome.prompt_logprobs is not None
        first, *others = outcome.prompt_logprobs
        assert first is None
        assert [each[0][0] for each in others if each] == list(_REQUEST.prompt[1:])
        assert all(each is not None and 2 <= len(each) <= 3 for each in others)


def finish(sampler: Sampler, num_outcomes: int) -> list[SampleOutcome]:
    """Turn a sampler until so many requests have ended, and return their outcomes."""
    outcomes: list[SampleOutcome] = []
    for _ in range(_MOST_STEPS):
        outcomes += sampler.step()
        if len(outcomes) >= num_outcomes:
            return outcomes
    raise AssertionError(f"{num_outcomes} requests should end; {len(outcomes)} did")


def draw(sampler: Sampler, request: SampleRequest) -> tuple[SampledTokens, ...]:
    """Return the sequences of one request."""
    sampler.submit(request)
    (outcome,) = finish(sampler, 1)
    assert outcome.error is None, outcome.error
    return outcome.sequences
