"""What the model says to a few prompts, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from loops_core.quickstart.encoding import Tokenizer, encode_prompt
from loops_core.quickstart.instructions import Instruction
from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SampleResponse, SamplingParams

MAX_NEW_TOKENS: Final = 40
NUM_TAUGHT: Final = 4
NEW_PROMPT: Final = "What is the capital of Spain?"


class Speaker(Protocol):
    """What is used of a SamplingClient."""

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
    ) -> SampleResponse:
        """Return new tokens after the prompt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A prompt and its two answers.

    Attributes:
        prompt: what was asked.
        taught: the response in the training data; None for a prompt that is not in it.
        before: the base model's answer.
        after: the trained model's answer.
    """

    prompt: str
    taught: str | None
    before: str
    after: str


def choose_prompts(
    instructions: Sequence[Instruction], wanted: Sequence[str] = ()
) -> dict[str, str | None]:
    """Return prompts with the responses that are taught for them, None where none is.

    Args:
        instructions: the training data.
        wanted: the prompts; empty = some spread over the data, and one that is not in it.
    """
    taught = {example.instruction: example.response for example in instructions}
    if not wanted:
        last = len(instructions) - 1
        places = [round(last * part / (NUM_TAUGHT - 1)) for part in range(NUM_TAUGHT)]
        wanted = [*(instructions[place].instruction for place in places), NEW_PROMPT]
    return {prompt: taught.get(prompt) for prompt in wanted}


def ask(speaker: Speaker, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    """Return the most likely answer to every prompt, without its end marker."""
    params = SamplingParams(max_tokens=MAX_NEW_TOKENS, temperature=0.0, seed=0)
    answers: list[str] = []
    for prompt in prompts:
        tokens = ModelInput.from_ints(encode_prompt(tokenizer, prompt))
        reply = speaker.sample(tokens, num_samples=1, sampling_params=params)
        text = tokenizer.decode(reply.sequences[0].tokens, skip_special_tokens=True)
        answers.append(text.strip())
    return answers
