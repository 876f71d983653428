"""What a pass promises: gradients that finite differences confirm, losses as the formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_mock.config import LM_HEAD, MIXER, ModelConfig
from loops_mock.exact import draw_uniform
from loops_mock.losses import DERIVATIVES, LOSSES
from loops_mock.model import Adapter, Factors, Model
from loops_mock.passes import add_gradients, make_output, run_backward, run_forward
from loops_mock.rows import Row, make_rows

CROSS_ENTROPY = LOSSES["cross_entropy"]
SETTINGS = {"skip_token_normalization": False}

# A central difference with this step errs by about STEP^2 + eps / STEP, 1e-10 of the loss's size.
STEP = 1e-5
TOLERANCE = 1e-8


def random_adapter(config: ModelConfig, sites: tuple[str, ...] = (MIXER, LM_HEAD)) -> Adapter:
    """Return an adapter whose B is not zero, so that A has a gradient too; float64 to be nudged."""
    factors = {
        site: Factors(
            draw_uniform(f"{site}/a", config.sites()[site][0], 2) - 0.5,
            draw_uniform(f"{site}/b", 2, config.sites()[site][1]) - 0.5,
        )
        for site in sites
    }
    return Adapter(rank=2, alpha=3.0, factors=factors)


def loss_sum(model: Model, adapter: Adapter, rows: list[Row]) -> float:
    results = [run_forward(model, adapter, row, CROSS_ENTROPY, SETTINGS) for row in rows]
    return make_output(results, SETTINGS).metrics["loss:sum"]


def nudged(adapter: Adapter, site: str, which: int, index: tuple[int, ...], by: float) -> Adapter:
    factors = [factor.copy() for factor in adapter.factors[site]]
    factors[which][index] += by
    return replace(adapter, factors={**adapter.factors, site: Factors(*factors)})


def check_gradient(model: Model, adapter: Adapter, rows: list[Row]) -> None:
    results = [run_forward(model, adapter, row, CROSS_ENTROPY, SETTINGS) for row in rows]
    gradient = run_backward(model, adapter, results[0], CROSS_ENTROPY, SETTINGS)
    for result in results[1:]:
        added = run_backward(model, adapter, result, CROSS_ENTROPY, SETTINGS)
        gradient = add_gradients(gradient, added)
    assert list(gradient) == list(adapter.factors)
    for site, factors in gradient.items():
        for which, exact in enumerate(factors):
            for index in np.ndindex(exact.shape):
                up = loss_sum(model, nudged(adapter, site, which, index, STEP), rows)
                down = loss_sum(model, nudged(adapter, site, which, index, -STEP), rows)
                assert exact[index] == pytest.approx((up - down) / (2 * STEP), abs=TOLERANCE)


def rows_of(data: list[Datum], config: ModelConfig) -> list[Row]:
    return make_rows(data, CROSS_ENTROPY, vocab_size=config.vocab_size, max_seq_len=32)


@pytest.fixture(scope="session")
def model(config: ModelConfig) -> Model:
    return Model.from_config(config)


@pytest.mark.parametrize("sites", [(MIXER, LM_HEAD), (MIXER,), (LM_HEAD,)])
def test_gradients_agree_with_finite_differences(
    model: Model, data: list[Datum], sites: tuple[str, ...]
) -> None:
    check_gradient(model, random_adapter(model.config, sites), rows_of(data, model.config))


def test_gradients_with_several_targets_a_position_agree_with_finite_differences(
    model: Model, make_datum: Callable[..., Datum]
) -> None:
    datum = make_datum([1, 2, 3])
    targets = np.array([[2, 3], [4, -100], [-100, -100]])
    weights = np.array([[0.75, -0.5], [2.0, 9.0], [1.0, 1.0]], dtype=np.float32)
    datum.loss_fn_inputs["target_tokens"] = TensorData.from_numpy(targets)
    datum.loss_fn_inputs["weights"] = TensorData.from_numpy(weights)
    rows = rows_of([datum], model.config)
    check_gradient(model, random_adapter(model.config), rows)
    # A position counts once for all its targets, and not at all when all are ignored.
    assert [row.num_active for row in rows] == [2]


def test_the_derivative_of_every_loss_is_there() -> None:
    assert set(DERIVATIVES) == set(LOSSES)


def test_loss_is_the_mean_over_active_positions(
    model: Model, data: list[Datum], config: ModelConfig
) -> None:
    adapter, rows = random_adapter(config), rows_of(data, config)
    results = [run_forward(model, adapter, row, CROSS_ENTROPY, SETTINGS) for row in rows]
    by_hand = 0.0
    for result, datum in zip(results, data, strict=True):
        targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
        weights = datum.loss_fn_inputs.get("weights")
        for i, target in enumerate(targets):
            weight = 1.0 if weights is None else float(weights.to_numpy()[i])
            if target != -100:
                by_hand -= weight * float(result.log_probs[i, target])
    output = make_output(results, SETTINGS)
    # 4 plain positions, 2 of 3 not ignored, and 3 of 5 neither ignored nor of weight 0. Summing in
    # another order costs a few roundings.
    assert output.metrics["active_tokens"] == 9.0
    assert output.metrics["loss:sum"] == pytest.approx(by_hand, rel=1e-14)
    assert output.loss == output.metrics["loss"] == output.metrics["loss:sum"] / 9.0


def test_logprobs_are_nan_exactly_where_targets_are_ignored(
    model: Model, data: list[Datum], config: ModelConfig
) -> None:
    adapter = random_adapter(config)
    results = [
        run_forward(model, adapter, row, CROSS_ENTROPY, SETTINGS) for row in rows_of(data, config)
    ]
    for datum, tensors in zip(data, make_output(results, SETTINGS).loss_fn_outputs, strict=True):
        targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
        logprobs = tensors["logprobs"].to_numpy()
        assert logprobs.dtype == np.float32
        assert np.isnan(logprobs).tolist() == (targets == -100).tolist()


@given(st.lists(st.integers(0, 10), min_size=2, max_size=12), st.data())
def test_a_position_does_not_see_what_follows_it(tokens: list[int], draw: st.DataObject) -> None:
    model = Model.from_config(
        ModelConfig(name="mock-causal", vocab_size=11, hidden_size=5, window=3)
    )
    cut = draw.draw(st.integers(1, len(tokens)))
    whole = model.forward(model.windows(np.array(tokens)), None).logits
    part = model.forward(model.windows(np.array(tokens[:cut])), None).logits
    assert whole[:cut].tolist() == part.tolist()
