"""Defaults follow the model, mistakes are refused, and the learning rate rises and falls."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loops_core.errors import UsageError
from loops_core.quickstart.settings import DEFAULTS, OTHER_DEFAULTS, learning_rate_at, make_settings


@pytest.mark.parametrize("base_model", [*DEFAULTS, "org/other"])
def test_what_is_not_given_is_the_models_default(base_model: str) -> None:
    usual = DEFAULTS.get(base_model, OTHER_DEFAULTS)
    settings = make_settings(base_model=base_model)
    assert (settings.steps, settings.batch_size) == (usual.steps, usual.batch_size)
    assert (settings.learning_rate, settings.rank) == (usual.learning_rate, usual.rank)


def test_what_is_given_wins() -> None:
    settings = make_settings(steps=7, rank=3, learning_rate=0.5, batch_size=2)
    assert (settings.steps, settings.rank) == (7, 3)
    assert (settings.learning_rate, settings.batch_size) == (0.5, 2)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("steps", lambda: make_settings(steps=0)),
        ("resume_steps", lambda: make_settings(resume_steps=0)),
        ("rank", lambda: make_settings(rank=0)),
        ("batch_size", lambda: make_settings(batch_size=0)),
    ],
)
def test_a_count_below_one_is_refused(name: str, make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0; expected at least 1") as caught:
        make()
    assert caught.value.field == name


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="learning_rate is"):
        make_settings(learning_rate=value)


def test_the_learning_rate_rises_to_its_highest_and_falls_to_a_tenth() -> None:
    settings = make_settings(steps=100, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(rates) == 1.0
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)  # the last step is just short of the end


def test_steps_beyond_the_last_keep_the_final_rate() -> None:
    settings = make_settings(steps=10, learning_rate=1.0)
    assert learning_rate_at(10, settings) == learning_rate_at(99, settings) == pytest.approx(0.1)


def test_one_step_has_a_rate_too() -> None:
    assert learning_rate_at(0, make_settings(steps=1, learning_rate=1.0)) == 1.0
