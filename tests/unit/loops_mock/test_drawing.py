"""Drawing one token: what temperature, top_k and top_p leave, and how often each comes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from loops_core.protocols import SampleRequest
from loops_mock.drawing import choose_token

# Probabilities 1/2, 1/4, 1/8 and twice 1/16, not in order of the ids.
LOGITS = np.log(np.array([1 / 16, 1 / 4, 1 / 2, 1 / 16, 1 / 8]))
ODDS = np.exp(LOGITS - LOGITS.max())
COUNT = 2000


def draw(**fields: float) -> Counter[int]:
    request = SampleRequest(prompt=(1,), adapter_id=None, seed=0, **fields)  # type: ignore[arg-type]  # numbers of either kind
    return Counter(choose_token(LOGITS, ODDS, request, str(number)) for number in range(COUNT))


@pytest.mark.parametrize(
    ("fields", "odds"),
    [
        ({}, {0: 1, 1: 4, 2: 8, 3: 1, 4: 2}),
        ({"temperature": 0.5}, {0: 1, 1: 16, 2: 64, 3: 1, 4: 4}),
        ({"top_k": 2}, {1: 4, 2: 8}),
        ({"top_k": 4}, {0: 1, 1: 4, 2: 8, 4: 2}),
        ({"top_k": 99}, {0: 1, 1: 4, 2: 8, 3: 1, 4: 2}),
        ({"top_p": 0.4}, {2: 1}),
        ({"top_p": 0.7}, {1: 4, 2: 8}),
        ({"top_p": 0.8}, {1: 4, 2: 8, 4: 2}),
        # 8 of 12 is 2/3: enough of the two that top_k left, not enough of all.
        ({"top_k": 2, "top_p": 0.6}, {2: 1}),
        # The temperature comes first: 64 of 86 is 0.74.
        ({"temperature": 0.5, "top_p": 0.7}, {2: 1}),
    ],
    ids=str,
)
def test_tokens_come_as_often_as_the_settings_say(
    fields: dict[str, float], odds: dict[int, float]
) -> None:
    seen = draw(**fields)
    assert set(seen) == set(odds)
    for token, share in odds.items():
        p = share / sum(odds.values())
        # Five standard deviations of a binomial count; the keys are fixed.
        assert abs(seen[token] - COUNT * p) <= 5 * math.sqrt(COUNT * p * (1 - p))


def test_temperature_zero_takes_the_most_likely_whatever_is_cut() -> None:
    assert set(draw(temperature=0.0)) == {2}
    assert set(draw(temperature=0.0, top_k=3, top_p=0.9)) == {2}


def test_a_cut_that_spares_a_token_does_not_change_which_is_drawn_at_its_number() -> None:
    """The number of a key is the same whatever is cut: a rarely cut token is rarely missed."""
    whole = [
        choose_token(LOGITS, ODDS, SampleRequest(prompt=(1,), adapter_id=None, seed=0), str(number))
        for number in range(50)
    ]
    again = [
        choose_token(
            LOGITS, ODDS, SampleRequest(prompt=(1,), adapter_id=None, seed=0, top_k=5), str(number)
        )
        for number in range(50)
    ]
    assert whole == again
