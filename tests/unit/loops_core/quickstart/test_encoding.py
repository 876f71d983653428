"""What is learned is the answer, all of it and nothing else; batches are a function of the step."""

from __future__ import annotations

import pytest

from loops_core.errors import UsageError
from loops_core.quickstart.encoding import (
    Batches,
    Tokenizer,
    encode_answer,
    encode_instructions,
    encode_prompt,
    make_datum,
)
from loops_core.quickstart.instructions import Instruction
from loops_core.types.datum import Datum


def targets(datum: Datum) -> list[int]:
    return datum.loss_fn_inputs["target_tokens"].to_numpy().tolist()


def test_a_prompt_ends_where_the_answer_begins(tokenizer: Tokenizer) -> None:
    assert bytes(encode_prompt(tokenizer, "Hi")).decode() == "user: Hi\nassistant: "


def test_without_a_template_the_prompt_is_plain_text(plain_tokenizer: Tokenizer) -> None:
    prompt = encode_prompt(plain_tokenizer, "Hi")
    assert prompt[0] == 0
    assert bytes(prompt[1:]).decode() == "Instruction: Hi\nResponse:"
    assert bytes(encode_answer(plain_tokenizer, "Yes")).decode() == " Yes"


def test_an_answer_ends_with_the_end_token(tokenizer: Tokenizer) -> None:
    assert encode_answer(tokenizer, "Yes") == [*b"Yes", 256]


def test_every_position_predicts_the_next_token(tokenizer: Tokenizer) -> None:
    datum = make_datum([1, 2, 3], [8, 9, 256])
    tokens = datum.model_input.to_ints()
    for i, target in enumerate(targets(datum)):
        assert target in (-100, [*tokens, 256][i + 1])


def test_only_the_answer_is_learned_and_all_of_it() -> None:
    datum = make_datum([1, 2, 3], [8, 9, 256])
    assert targets(datum) == [-100, -100, 8, 9, 256]
    assert datum.loss_fn_inputs["target_tokens"].dtype == "int64"


def test_an_example_that_is_too_long_is_named(tokenizer: Tokenizer) -> None:
    examples = [Instruction("a", "b"), Instruction("long " * 20, "b")]
    assert len(encode_instructions(tokenizer, examples, max_seq_len=None)) == 2
    with pytest.raises(UsageError, match=r"example 2 .* expected at most 50") as caught:
        encode_instructions(tokenizer, examples, max_seq_len=50)
    assert caught.value.field == "data"


def make_batches(num_data: int, batch_size: int, seed: int = 0) -> Batches:
    return Batches([make_datum([i], [i]) for i in range(num_data)], batch_size, seed)


def seen(batches: Batches, steps: range) -> list[int]:
    return [datum.model_input.to_ints()[0] for step in steps for datum in batches.at(step)]


def test_each_round_takes_every_example_once() -> None:
    batches = make_batches(10, 4)
    order = seen(batches, range(5))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20]


def test_a_batch_depends_on_its_step_and_the_seed_alone() -> None:
    first, second = make_batches(10, 4), make_batches(10, 4)
    later = seen(second, range(7, 8))
    assert seen(first, range(8))[-4:] == later
    assert seen(make_batches(10, 4, seed=1), range(5)) != seen(first, range(5))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert len(make_batches(3, 8).at(0)) == 8
