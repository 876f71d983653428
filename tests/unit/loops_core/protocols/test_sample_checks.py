"""A request that cannot be served is refused at once, with the field, its value and the limit."""

from __future__ import annotations

import dataclasses

import pytest

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import SamplerDescription, SampleRequest
from loops_core.protocols.sample_checks import check_request

SAMPLER = SamplerDescription(
    vocab_size=10,
    max_seq_len=16,
    features=frozenset({"top_k", "top_p", "stop_strings", "prompt_logprobs"}),
)
REQUEST = SampleRequest(prompt=(1, 2, 3), adapter_id=None, seed=0)


def test_without_max_tokens_what_is_left_of_the_context_is_drawn() -> None:
    assert check_request(REQUEST, SAMPLER) == 13


def test_max_tokens_may_fill_the_context_and_no_more() -> None:
    assert check_request(dataclasses.replace(REQUEST, max_tokens=13), SAMPLER) == 13
    with pytest.raises(UsageError, match=r"max_tokens is 14; expected at most 13.*16") as caught:
        check_request(dataclasses.replace(REQUEST, max_tokens=14), SAMPLER)
    assert caught.value.field == "max_tokens"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ()),
        ("prompt", (1,) * 16),
        ("prompt", (1, 10)),
        ("prompt", (-1,)),
        ("stop_token_ids", (3, 10)),
        ("num_samples", 0),
        ("max_tokens", 0),
        ("temperature", -0.5),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1e39),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", float("nan")),
        ("top_k_prompt_logprobs", -1),
        ("top_k_prompt_logprobs", 11),
    ],
)
def test_a_value_that_cannot_be_served_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field) as caught:
        check_request(dataclasses.replace(REQUEST, **{field: value}), SAMPLER)
    assert caught.value.field == field


def test_stop_strings_need_a_tokenizer() -> None:
    request = dataclasses.replace(REQUEST, stop_strings=("x",))
    with pytest.raises(UnsupportedError, match="stop_strings"):
        check_request(request, SAMPLER)
    able = dataclasses.replace(SAMPLER, has_tokenizer=True)
    assert check_request(request, able) == 13
    with pytest.raises(UsageError, match="at least one character"):
        check_request(dataclasses.replace(REQUEST, stop_strings=("x", "")), able)


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 3), ("top_p", 0.9), ("top_k_prompt_logprobs", 0), ("stop_strings", ("x",))],
)
def test_what_a_sampler_does_not_offer_is_refused_by_name(field: str, value: object) -> None:
    plain = SamplerDescription(vocab_size=10, max_seq_len=16, has_tokenizer=True)
    request = dataclasses.replace(REQUEST, **{field: value})
    with pytest.raises(UnsupportedError, match=f"{field} is .*none of the optional") as caught:
        check_request(request, plain)
    assert caught.value.field == field
    assert check_request(request, dataclasses.replace(SAMPLER, has_tokenizer=True)) == 13
