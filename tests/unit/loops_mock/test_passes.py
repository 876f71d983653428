"""What a pass promises: gradients that finite differences confirm, losses as the formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.protocols.loss_settings import complete_settings
from loops_core.protocols.rows import Row, make_rows
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_mock.config import LM_HEAD, MIXER, ModelConfig
from loops_mock.exact import draw_uniform
from loops_mock.losses import EXACT_LOSSES, ExactLoss
from loops_mock.model import Adapter, Factors, Model
from loops_mock.outputs import make_output
from loops_mock.passes import add_gradients, run_backward, run_forward

CROSS_ENTROPY = EXACT_LOSSES["cross_entropy"]
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


def loss_sum(model: Model, adapter: Adapter, rows: list[Row], loss: ExactLoss) -> float:
    settings = complete_settings(loss.function, {})
    return run_forward(model.prepare(adapter), rows, loss, settings).loss_sum


def nudged(adapter: Adapter, site: str, which: int, index: tuple[int, ...], by: float) -> Adapter:
    factors = [factor.copy() for factor in adapter.factors[site]]
    factors[which][index] += by
    return replace(adapter, factors={**adapter.factors, site: Factors(*factors)})


def check_gradient(
    model: Model, adapter: Adapter, rows: list[Row], loss: ExactLoss = CROSS_ENTROPY
) -> None:
    settings = complete_settings(loss.function, {})
    policy = model.prepare(adapter)
    result = run_forward(policy, rows, loss, settings)
    parts = [
        run_backward(policy, row, loss, settings, slope=slope)
        for row, slope in zip(result.rows, result.slopes, strict=True)
    ]
    gradient = adapter.backward(reduce(add_gradients, parts))
    assert list(gradient) == list(adapter.factors)
    for site, factors in gradient.items():
        for which, exact in enumerate(factors):
            for index in np.ndindex(exact.shape):
                up, down = (
                    loss_sum(model, nudged(adapter, site, which, index, step), rows, loss)
                    for step in (STEP, -STEP)
                )
                assert exact[index] == pytest.approx((up - down) / (2 * STEP), abs=TOLERANCE)


def rows_of(data: list[Datum], config: ModelConfig, loss: ExactLoss = CROSS_ENTROPY) -> list[Row]:
    return make_rows(data, loss.function, vocab_size=config.vocab_size, max_seq_len=32)


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


@pytest.mark.parametrize("name", ["importance_sampling", "ppo", "dro", "dppo", "dpo"])
def test_gradients_of_every_differentiable_loss_agree_with_finite_differences(
    model: Model, make_datum: Callable[..., Datum], name: str
) -> None:
    """CISPO is left out: its gradient is not that of its value, by design."""
    data = [make_datum([1, 2, 3], [2, -100, 4]), make_datum([5, 6], [6, 7])]
    for datum, sign in zip(data, (1.0, -0.5), strict=True):
        n = datum.model_input.length
        datum.loss_fn_inputs |= {
            "logprobs": TensorData.from_numpy(np.linspace(-4.0, -1.5, n)),
            "ref_logprobs": TensorData.from_numpy(np.linspace(-1.0, -3.0, n)),
            "advantages": TensorData.from_numpy(sign * np.linspace(0.5, 1.0, n)),
        }
    loss = EXACT_LOSSES[name]
    check_gradient(model, random_adapter(model.config), rows_of(data, model.config, loss), loss)


def test_loss_is_the_mean_over_active_positions(
    model: Model, data: list[Datum], config: ModelConfig
) -> None:
    adapter, rows = random_adapter(config), rows_of(data, config)
    results = run_forward(model.prepare(adapter), rows, CROSS_ENTROPY, SETTINGS)
    by_hand = 0.0
    for result, datum in zip(results.rows, data, strict=True):
        targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
        weights = datum.loss_fn_inputs.get("weights")
        for i, target in enumerate(targets):
            weight = 1.0 if weights is None else float(weights.to_numpy()[i])
            if target != -100:
                by_hand -= weight * float(result.softmax.log_probs[i, target])
    output = make_output(results, CROSS_ENTROPY.function, SETTINGS)
    # 4 plain positions, 2 of 3 not ignored, and 3 of 5 neither ignored nor of weight 0. Summing in
    # another order costs a few roundings.
    assert output.metrics["active_tokens"] == 9.0
    assert output.metrics["loss:sum"] == pytest.approx(by_hand, rel=1e-14)
    assert output.loss == output.metrics["loss"] == output.metrics["loss:sum"] / 9.0


def test_logprobs_are_nan_exactly_where_targets_are_ignored(
    model: Model, data: list[Datum], config: ModelConfig
) -> None:
    adapter = random_adapter(config)
    policy = model.prepare(adapter)
    results = run_forward(policy, rows_of(data, config), CROSS_ENTROPY, SETTINGS)
    outputs = make_output(results, CROSS_ENTROPY.function, SETTINGS).loss_fn_outputs
    for datum, tensors in zip(data, outputs, strict=True):
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
    policy = model.prepare(None)
    whole = policy.forward(model.windows(np.array(tokens))).logits
    part = policy.forward(model.windows(np.array(tokens[:cut]))).logits
    assert whole[:cut].tolist() == part.tolist()
