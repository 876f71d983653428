"""Pairs: the loss of a pair, its slopes, and which datums make one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.errors import UsageError
from loops_core.protocols.loss_settings import complete_settings
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_mock.losses import EXACT_LOSSES
from loops_mock.trainer import MockTrainer

DPO = EXACT_LOSSES["dpo"]
STEP = 1e-5


def pair_loss(chosen: float, rejected: float, *, beta: float, smoothing: float) -> float:
    settings = complete_settings(DPO.function, {"beta": beta, "label_smoothing": smoothing})
    assert DPO.function.combine is not None
    return float(DPO.function.combine(np.array([chosen, rejected]), settings))


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 2), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_loss_and_slopes_of_a_pair_are_those_of_the_formula(
    chosen: float, rejected: float, beta: float, smoothing: float
) -> None:
    margin = beta * (chosen - rejected)
    expected = (1 - smoothing) * math.log1p(math.exp(-margin))
    expected += smoothing * math.log1p(math.exp(margin))
    found = pair_loss(chosen, rejected, beta=beta, smoothing=smoothing)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    settings = complete_settings(DPO.function, {"beta": beta, "label_smoothing": smoothing})
    assert DPO.combine_derivative is not None
    slopes = DPO.combine_derivative(np.array([chosen, rejected]), settings).tolist()
    for slope, (up, down) in zip(slopes, [(STEP, 0.0), (0.0, STEP)], strict=True):
        above = pair_loss(chosen + up, rejected + down, beta=beta, smoothing=smoothing)
        below = pair_loss(chosen - up, rejected - down, beta=beta, smoothing=smoothing)
        assert slope == pytest.approx((above - below) / (2 * STEP), abs=1e-8)


def test_the_loss_of_a_hopeless_pair_is_its_margin() -> None:
    assert pair_loss(-1e5, 1e5, beta=1.0, smoothing=0.0) == 2e5
    assert pair_loss(1e5, -1e5, beta=1.0, smoothing=0.0) == 0.0


def preference(make_datum: Callable[..., Datum], ref: float) -> list[Datum]:
    """Return a pair of texts of different lengths."""
    chosen, rejected = make_datum([1, 2, 3], [2, 3, 4]), make_datum([1, 5], [5, 6])
    for datum, length in ((chosen, 3), (rejected, 2)):
        values = np.full(length, ref, dtype=np.float32)
        datum.loss_fn_inputs["ref_logprobs"] = TensorData.from_numpy(values)
    return [chosen, rejected]


def run(trainer: MockTrainer, data: list[Datum]) -> float:
    return trainer.forward(data, loss_fn="dpo", loss_fn_config={"beta": 0.5}).metrics["loss:sum"]


def test_a_pair_is_compared_by_its_sums_over_positions(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    pair = preference(make_datum, -2.0)
    output = trainer.forward(pair, loss_fn="dpo", loss_fn_config={"beta": 0.5})
    sums = [float((t["logprobs"].to_numpy() + 2.0).sum()) for t in output.loss_fn_outputs]
    expected = math.log1p(math.exp(-0.5 * (sums[0] - sums[1])))
    assert output.metrics["loss:sum"] == pytest.approx(expected, rel=1e-6)  # float32 logprobs
    assert output.metrics["active_tokens"] == 5.0
    assert output.loss == output.metrics["loss:sum"] / 5.0


def test_pairs_are_neighbours_and_their_losses_add(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    one, two = preference(make_datum, -2.0), preference(make_datum, -1.0)
    two[0].loss_fn_inputs["weights"] = TensorData.from_list([0.0, 1.0, 1.0])
    assert run(trainer, [*one, *two]) == pytest.approx(run(trainer, one) + run(trainer, two))
    assert run(trainer, one) != pytest.approx(run(trainer, one[::-1]))


@pytest.mark.parametrize("number", [1, 3])
def test_half_a_pair_is_refused(
    trainer: MockTrainer, make_datum: Callable[..., Datum], number: int
) -> None:
    before = trainer.digest()
    data = [*preference(make_datum, -2.0), *preference(make_datum, -2.0)][:number]
    with pytest.raises(UsageError, match=f"data holds {number} datums.*multiple of 2"):
        trainer.forward_backward(data, loss_fn="dpo", loss_fn_config={})
    assert trainer.digest() == before


def test_a_missing_reference_is_named(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    pair = preference(make_datum, -2.0)
    del pair[1].loss_fn_inputs["ref_logprobs"]
    with pytest.raises(UsageError, match=r"data\[1\].*ref_logprobs"):
        run(trainer, pair)
