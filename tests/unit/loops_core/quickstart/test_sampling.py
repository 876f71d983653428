"""Prompts are spread over the data with one that is new, and answers come without markers."""

from __future__ import annotations

from typing import final

from loops_core.quickstart.encoding import Tokenizer
from loops_core.quickstart.instructions import Instruction
from loops_core.quickstart.sampling import NEW_PROMPT, ask, choose_prompts
from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SampledSequence, SampleResponse, SamplingParams


@final
class Parrot:
    """Answers with its prompt in capitals and an end token."""

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
    ) -> SampleResponse:
        assert sampling_params is not None
        assert (num_samples, sampling_params.temperature) == (1, 0.0)
        tokens = [*bytes(prompt.to_ints()).upper(), 256]
        return SampleResponse(sequences=[SampledSequence(tokens=tokens)])


def test_prompts_are_spread_over_the_data_and_one_is_new() -> None:
    data = [Instruction(f"q{i}", f"a{i}") for i in range(10)]
    chosen = choose_prompts(data)
    assert chosen == {"q0": "a0", "q3": "a3", "q6": "a6", "q9": "a9", NEW_PROMPT: None}


def test_the_users_prompts_win() -> None:
    data = [Instruction("q", "a")]
    assert choose_prompts(data, ["other", "q"]) == {"other": None, "q": "a"}


def test_few_examples_are_asked_once_each() -> None:
    assert list(choose_prompts([Instruction("q", "a")])) == ["q", NEW_PROMPT]


def test_answers_come_in_order_without_markers(tokenizer: Tokenizer) -> None:
    assert ask(Parrot(), tokenizer, ["b", "a"]) == ["USER: B\nASSISTANT:", "USER: A\nASSISTANT:"]
