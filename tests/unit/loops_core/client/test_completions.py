"""Sample bodies and answers in the completions shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.client.completions import read_completions, sample_body
from loops_core.errors import RemoteOpError, UsageError
from loops_core.types.datum import ImageChunk, ModelInput
from loops_core.types.sampling import (
    ChoiceLogprobs,
    CompletionChoice,
    Completions,
    PromptLogprob,
    SampleBody,
    SamplingParams,
)

PROMPT = ModelInput.from_ints([5, 6])
TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def body_of(
    params: SamplingParams | None = None,
    *,
    prompt: ModelInput = PROMPT,
    num_samples: int = 1,
    logprobs: bool = False,
    top_k: int = 0,
) -> SampleBody:
    return sample_body(
        prompt,
        num_samples=num_samples,
        sampling_params=params,
        include_prompt_logprobs=logprobs,
        topk_prompt_logprobs=top_k,
        include_routed_experts=None,
    )


def choice(tokens: list[int], *, ids: bool = True) -> CompletionChoice:
    markers = ChoiceLogprobs(
        tokens=[f"token_id:{token}" for token in tokens],
        token_logprobs=[-0.1 * n for n in range(len(tokens))],
    )
    return CompletionChoice(
        finish_reason="stop", logprobs=markers, token_ids=tokens if ids else None
    )


def test_parameters_travel_as_the_protocol_names_them() -> None:
    params = SamplingParams(max_tokens=7, seed=3, temperature=0.5, top_k=4, top_p=0.9)
    sent = body_of(params, num_samples=2).model_dump(exclude_none=True)
    assert sent == {
        "prompt": [5, 6],
        "n": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "max_tokens": 7,
        "seed": 3,
        "logprobs": 0,
        "return_tokens_as_token_ids": True,
    }


def test_a_top_k_that_is_off_is_not_sent() -> None:
    assert body_of(SamplingParams(top_k=-1)).top_k is None


@pytest.mark.parametrize(
    ("stop", "ids", "texts"),
    [
        ([1, 2], [1, 2], None),
        (["a", "b"], None, ["a", "b"]),
        ("a", None, "a"),
        ([], None, []),
        (None, None, None),
    ],
)
def test_stops_travel_as_ids_or_as_texts(
    stop: str | list[str] | list[int] | None, ids: list[int] | None, texts: object
) -> None:
    body = body_of(SamplingParams(stop=stop))
    assert (body.stop_token_ids, body.stop) == (ids, texts)


def test_an_image_travels_as_chunks_and_asks_for_token_ids() -> None:
    image = ImageChunk(data=b"png", format="png", expected_tokens=4)
    body = body_of(prompt=PROMPT.append(image))
    assert body.prompt == []
    assert body.model_input_chunks is not None
    assert len(body.model_input_chunks) == 2
    assert body.return_token_ids


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("num_samples", {"num_samples": 0}),
        ("topk_prompt_logprobs", {"top_k": -1}),
        ("prompt", {"prompt": ModelInput.empty()}),
        ("prompt", {"prompt": [5, 6]}),
        ("sampling_params", {"params": {"max_tokens": 3}}),
    ],
)
def test_a_wrong_argument_is_named(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        body_of(**arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == name


@given(TOKENS, st.booleans())
def test_tokens_are_read_from_ids_or_markers(tokens: list[int], ids: bool) -> None:
    prompt = ModelInput.from_ints([99])
    response = read_completions(
        Completions(choices=[choice(tokens, ids=ids)]), body_of(prompt=prompt)
    )
    assert response.sequences[0].tokens == tokens
    assert response.sequences[0].stop_reason == "stop"


@given(TOKENS, TOKENS, st.booleans())
def test_a_completion_that_begins_with_its_prompt_is_kept_whole(
    prompt: list[int], rest: list[int], ids: bool
) -> None:
    tokens = prompt + rest
    body = body_of(SamplingParams(max_tokens=len(tokens)), prompt=ModelInput.from_ints(prompt))
    response = read_completions(Completions(choices=[choice(tokens, ids=ids)]), body)
    assert response.sequences[0].tokens == tokens


@given(TOKENS, TOKENS)
def test_an_echo_that_makes_the_answer_too_long_is_removed(
    prompt: list[int], rest: list[int]
) -> None:
    body = body_of(SamplingParams(max_tokens=len(rest)), prompt=ModelInput.from_ints(prompt))
    answer = Completions(choices=[choice(prompt + rest, ids=False)])
    sequence = read_completions(answer, body).sequences[0]
    assert sequence.tokens == rest
    assert sequence.logprobs is not None
    assert len(sequence.logprobs) == len(rest)


def test_a_missing_finish_reason_reads_as_length() -> None:
    answer = Completions(choices=[CompletionChoice(token_ids=[1])])
    assert read_completions(answer, body_of()).sequences[0].stop_reason == "length"


def prompt_rows() -> list[dict[str, PromptLogprob] | None]:
    return [None, {"7": PromptLogprob(logprob=-0.5), "6": PromptLogprob(logprob=-2.0)}]


def test_prompt_logprobs_are_those_of_the_actual_tokens() -> None:
    answer = Completions(
        choices=[choice([1]).model_copy(update={"prompt_logprobs": prompt_rows()})]
    )
    response = read_completions(answer, body_of(logprobs=True))
    assert response.prompt_logprobs == [None, -2.0]
    assert response.topk_prompt_logprobs is None
    assert response.prompt_token_ids == [5, 6]


def test_top_k_prompt_logprobs_are_pairs_in_the_order_of_the_wire() -> None:
    answer = Completions(
        choices=[choice([1]).model_copy(update={"prompt_logprobs": prompt_rows()})]
    )
    response = read_completions(answer, body_of(logprobs=True, top_k=1))
    assert response.topk_prompt_logprobs == [None, [(7, -0.5), (6, -2.0)]]


def test_the_sampler_s_own_prompt_ids_come_first() -> None:
    told = choice([1]).model_copy(update={"prompt_token_ids": [5, 6, 6]})
    assert read_completions(Completions(choices=[told]), body_of()).prompt_token_ids == [5, 6, 6]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Completions(choices=[]), "0 sequences"),
        (
            Completions(choices=[CompletionChoice(logprobs=ChoiceLogprobs(tokens=["hello"]))]),
            "'hello'",
        ),
        (
            Completions(
                choices=[
                    CompletionChoice(token_ids=[1, 2], logprobs=ChoiceLogprobs(token_logprobs=[0]))
                ]
            ),
            "1 log-probabilities for 2",
        ),
        (Completions(choices=[CompletionChoice(prompt_logprobs=[None])]), "prompt of 2 tokens"),
        (
            Completions(choices=[CompletionChoice(prompt_logprobs=[None, {}])]),
            "own token 6",
        ),
    ],
)
def test_an_answer_of_another_shape_is_an_error_that_says_what_is_wrong(
    answer: Completions, words: str
) -> None:
    with pytest.raises(RemoteOpError, match=words):
        read_completions(answer, body_of(logprobs=True))
