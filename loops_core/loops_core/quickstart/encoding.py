"""From text to what a trainer and a sampler read: prompts, masked targets, batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, final

import numpy as np

from loops_core.errors import UsageError
from loops_core.quickstart.instructions import Instruction
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET

PLAIN_PROMPT: Final = "Instruction: {instruction}\nResponse:"
"""The prompt for a tokenizer without a chat template."""


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    @property
    def chat_template(self) -> object:
        """Return the template that makes a conversation one text, or None."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """Return the id that ends an answer, or None."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the text's token ids."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """Return the text of token ids."""
        ...

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> object:
        """Return a conversation as one text, up to where the answer begins."""
        ...


def encode_prompt(tokenizer: Tokenizer, instruction: str) -> list[int]:
    """Return the token ids after which the model is to answer the instruction."""
    if tokenizer.chat_template is None:
        text = PLAIN_PROMPT.format(instruction=instruction)
        return list(tokenizer.encode(text, add_special_tokens=True))
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": instruction}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer.encode(str(text), add_special_tokens=False))


def encode_answer(tokenizer: Tokenizer, response: str) -> list[int]:
    """Return the token ids of the answer and of its end."""
    text = f" {response}" if tokenizer.chat_template is None else response
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [*tokenizer.encode(text, add_special_tokens=False), *end]


def make_datum(prompt: Sequence[int], answer: Sequence[int]) -> Datum:
    """Return the example that teaches `answer` after `prompt` and nothing about the prompt.

    Position i reads token i and predicts token i + 1, so the last token is only a target, and the
    last token of the prompt predicts the first of the answer.

    >>> datum = make_datum([1, 2, 3], [8, 9])
    >>> datum.model_input.to_ints()
    [1, 2, 3, 8]
    >>> datum.loss_fn_inputs["target_tokens"].tolist()
    [-100, -100, 8, 9]
    """
    tokens = [*prompt, *answer]
    targets = np.asarray([IGNORED_TARGET] * (len(prompt) - 1) + [*answer], dtype=np.int64)
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": TensorData.from_numpy(targets)},
    )


def encode_instructions(
    tokenizer: Tokenizer, instructions: Sequence[Instruction], *, max_seq_len: int | None
) -> list[Datum]:
    """Return one datum for each example.

    Raises:
        UsageError: an example has more positions than `max_seq_len`.
    """
    data: list[Datum] = []
    for number, example in enumerate(instructions, start=1):
        prompt = encode_prompt(tokenizer, example.instruction)
        datum = make_datum(prompt, encode_answer(tokenizer, example.response))
        if max_seq_len is not None and datum.model_input.length > max_seq_len:
            raise UsageError(
                f"data: example {number} ({example.instruction[:40]!r}) has"
                f" {datum.model_input.length} tokens; expected at most {max_seq_len}; shorten it",
                field="data",
            )
        data.append(datum)
    return data


@final
@dataclass(frozen=True, slots=True)
class Batches:
    """The batch of every step, as a function of the step: shuffled anew each time round the data.

    Attributes:
        data: all examples.
        batch_size: how many a step takes; they may span two rounds.
        seed: of the shuffles.
    """

    data: Sequence[Datum]
    batch_size: int
    seed: int
    _orders: dict[int, list[int]] = field(
        default_factory=dict[int, list[int]], init=False, repr=False
    )

    def at(self, step: int) -> list[Datum]:
        """Return the batch of a step, counted from 0."""
        first = step * self.batch_size
        places = range(first, first + self.batch_size)
        return [self.data[self._order(p // len(self.data))[p % len(self.data)]] for p in places]

    def _order(self, turn: int) -> list[int]:
        if turn not in self._orders:
            order = list(range(len(self.data)))
            random.Random(f"{self.seed}/{turn}").shuffle(order)
            self._orders[turn] = order
        return self._orders[turn]
