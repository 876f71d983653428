"""What measuring promises: turns, and figures that mean what they are called."""

from __future__ import annotations

import pytest

from loops_transport_http.bench.measuring import Contender, beside, interleave, percentile, spread


def test_contenders_take_turns_and_begin_in_turn() -> None:
    order: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> float:
            order.append(name)
            return float(len(order))

        return Contender(name, run)

    seconds = interleave([contender("a"), contender("b")], rounds=3, warmup=0)

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_rounds_of_warming_up_are_not_counted() -> None:
    runs: list[float] = []

    def run() -> float:
        runs.append(0.0)
        return float(len(runs))

    assert interleave([Contender("a", run)], rounds=2, warmup=3) == {"a": [4.0, 5.0]}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.01, 1.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_value_that_the_share_does_not_exceed(
    share: float, expected: float
) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_figures_are_in_milliseconds_and_beside_the_floor() -> None:
    mine, floor = [0.004, 0.002, 0.003], [0.002, 0.002, 0.001]

    assert spread(mine) == {"p50_ms": 3.0, "p99_ms": 4.0}
    assert beside(mine, floor) == {"x_p50": 1.5, "x_p99": 2.0, "x_pair": 2.0}
