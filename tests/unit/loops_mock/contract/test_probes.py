"""Comparisons of rules say what was seen and expected, and let nothing pass that differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loops_core.errors import RemoteOpError, UnreachableError, UsageError
from loops_mock.contract import probes
from loops_mock.contract.probes import (
    DATUM,
    TEXT,
    expect_failed,
    expect_moved,
    expect_near,
    expect_refused,
    expect_same,
    ignore_from,
    make_datum,
    run_loss,
)
from loops_mock.contract.rule import CheckFailed, NotOffered
from loops_mock.contract.target import Target


def raises(error: Exception) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def test_numbers_are_near_up_to_the_bound_and_nan_is_nan() -> None:
    expect_near("near", [1.0, np.nan], [1.00005, np.nan])
    with pytest.raises(CheckFailed) as caught:
        expect_near("near", 1.0, 1.2)
    assert caught.value.seen == {"seen": 1.0, "expected": 1.2, "tolerance": probes.ROUNDING}
    for seen, expected in (([1.0], [np.nan]), ([1.0, 2.0], [1.0]), ([np.inf], [1.0])):
        with pytest.raises(CheckFailed):
            expect_near("near", seen, expected)


def test_the_same_is_the_same_to_the_last_bit() -> None:
    expect_same("same", [0.1, np.nan], [0.1, np.nan])
    with pytest.raises(CheckFailed):
        expect_same("same", [0.1], [np.nextafter(0.1, 1.0)])


def test_moved_needs_one_element_that_moved() -> None:
    expect_moved("moved", [0.0, 1.0], [0.0, 1.5])
    for seen in ([0.0, 1.001], [0.0]):
        with pytest.raises(CheckFailed):
            expect_moved("moved", seen, [0.0, 1.0])


def test_a_refusal_is_a_usage_error_that_names_the_argument() -> None:
    expect_refused("refused", raises(UsageError("rank is 0")), "rank", "0")
    expect_failed("failed", raises(RemoteOpError("no gradients")))
    for act in (raises(UsageError("no")), raises(UnreachableError("gone")), lambda: 3):
        with pytest.raises(CheckFailed, match="refused"):
            expect_refused("refused", act, "rank")


def test_a_datum_predicts_the_next_token_unless_it_is_ignored() -> None:
    assert DATUM.model_input.to_ints() == list(TEXT[:-1])
    assert DATUM.loss_fn_inputs["target_tokens"].tolist() == list(TEXT[1:])
    some = make_datum(TEXT, targets=ignore_from(2), weights=[1.0] * 8)
    assert some.loss_fn_inputs["target_tokens"].tolist() == [*TEXT[1:3], *[-100] * 6]
    assert some.loss_fn_inputs["weights"].dtype == "float32"


def test_a_loss_that_a_service_lacks_is_not_offered() -> None:
    with (
        Target("inproc:mock?data_dir=:memory:") as target,
        target.subject() as subject,
        pytest.raises(NotOffered, match="loss of nobody"),
    ):
        run_loss(subject.trainer(), [DATUM], "loss of nobody")
