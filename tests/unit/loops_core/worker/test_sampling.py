"""What a sampler cannot answer is refused before it is asked, whatever the backend."""

from __future__ import annotations

import dataclasses

import pytest

from loops_core.errors import UsageError
from loops_core.protocols import SamplerDescription
from loops_core.types.sampling import SampleBody
from loops_core.worker.sampling import check_sample

SAMPLER = SamplerDescription(vocab_size=8, max_seq_len=16, features=frozenset({"prompt_logprobs"}))


@pytest.mark.parametrize("top_k", [None, 0, 8])
def test_as_many_candidates_as_there_are_tokens_may_be_asked_for(top_k: int | None) -> None:
    check_sample(SampleBody(prompt=[1], prompt_logprobs=top_k), SAMPLER)


def test_more_candidates_than_tokens_are_refused_by_the_name_that_callers_use() -> None:
    with pytest.raises(UsageError, match="topk_prompt_logprobs is 9: expected 0 to 8") as caught:
        check_sample(SampleBody(prompt=[1], prompt_logprobs=9), SAMPLER)
    assert caught.value.field == "topk_prompt_logprobs"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (SampleBody(prompt=[1], stop_token_ids=[3, 8]), "stop holds 8: expected token ids"),
        (SampleBody(prompt=[1], stop_token_ids=[-1]), "stop holds -1: expected token ids"),
        (SampleBody(prompt=[1], stop=["x", ""]), "stop holds '': expected texts"),
        (SampleBody(prompt=[1], stop=""), "stop holds '': expected texts"),
    ],
)
def test_a_stop_that_can_never_come_is_refused(body: SampleBody, message: str) -> None:
    sampler = dataclasses.replace(SAMPLER, features=frozenset({"stop_strings"}), has_tokenizer=True)
    with pytest.raises(UsageError, match=message) as caught:
        check_sample(body, sampler)
    assert caught.value.field == "stop"
