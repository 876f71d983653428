"""Losses through the model: gradients by the chain rule, pairs in batches, likeliest tokens."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownArgumentType=false
# (jax.jit says little of what it returns)
from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from tests.numerics.cases import (
    draw_factors,
    final_logits,
    flat_gradients,
    make_datum,
    run_data,
)

import loops_mock.losses
from loops_backend_jax.lora.adapter import Factors, make_adapter_spec
from loops_backend_jax.losses import make_losses
from loops_backend_jax.train.call import CallResult
from loops_backend_jax.train.step import forward_backward_pass
from loops_backend_jax.weights.load import BaseModel
from loops_core.protocols.loss_settings import complete_settings
from loops_core.types.datum import Datum
from loops_core.types.training import LossFnConfig

pytestmark = pytest.mark.slow  # every shape compiles

SPEC: Final = make_adapter_spec(rank=2, alpha=4.0)
LOSSES: Final = make_losses()
TWINS: Final = loops_mock.losses.EXACT_LOSSES
LENGTHS: Final = (5, 16, 9, 20)
# As in test_passes: other shapes and another order of the same sums move gradients by about 1e-6 of
# their norm; the weights of the surrogate are rounded once more.
GRADIENT_RTOL: Final = 2e-5

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def factors(tiny: BaseModel) -> Factors:
    return draw_factors(tiny.config, SPEC)


@pytest.fixture(scope="module")
def rows() -> list[tuple[np.ndarray, Arrays]]:
    """Return tokens, targets and all inputs of four rows, some positions ignored or without A."""
    g = np.random.default_rng(5)
    found: list[tuple[np.ndarray, Arrays]] = []
    for length in LENGTHS:
        tokens, targets = g.integers(3, 320, (2, length))
        targets[: length // 4] = -100
        gate = g.random(length) < 0.8
        found.append(
            (
                tokens,
                {
                    "target_tokens": targets,
                    "logprobs": -g.exponential(6.0, length).astype(np.float32) - 1.0,
                    "advantages": (g.normal(0.0, 1.0, length) * gate).astype(np.float32),
                    "ref_logprobs": -g.exponential(6.0, length).astype(np.float32) - 1.0,
                    "weights": g.uniform(0.2, 1.5, length).astype(np.float32),
                },
            )
        )
    return found


def datums(rows: list[tuple[np.ndarray, Arrays]], *names: str) -> list[Datum]:
    return [
        make_datum(tokens, **{name: inputs[name] for name in ("target_tokens", *names)})
        for tokens, inputs in rows
    ]


def num_compiled() -> int:
    """Return how many forms of the pass are compiled."""
    return forward_backward_pass._cache_size()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(found - expected) <= GRADIENT_RTOL * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["importance_sampling", "ppo", "cispo", "dro", "dppo"])
def test_the_gradient_is_that_of_cross_entropy_weighted_by_the_slopes(
    tiny: BaseModel, factors: Factors, rows: list[tuple[np.ndarray, Arrays]], name: str
) -> None:
    data = datums(rows, "logprobs", "advantages")
    result = run_data(tiny, SPEC, factors, data, loss=LOSSES[name])
    settings, twin = complete_settings(LOSSES[name], {}), TWINS[name]
    weighted: list[Datum] = []
    total = 0.0
    for (tokens, inputs), logprobs in zip(rows, result.logprobs, strict=True):
        wide = {key: inputs[key].astype(np.float64) for key in ("logprobs", "advantages")}
        active = (inputs["target_tokens"] != -100) & (inputs["advantages"] != 0)
        slopes = np.where(active, twin.derivative(logprobs.astype(np.float64), wide, settings), 0.0)
        values = twin.function.compute(logprobs.astype(np.float64), wide, settings)
        total += float(np.where(active, values, 0.0).sum())
        weights = (-slopes).astype(np.float32)
        weighted.append(make_datum(tokens, target_tokens=inputs["target_tokens"], weights=weights))
    surrogate = run_data(tiny, SPEC, factors, weighted)
    assert_close(flat_gradients(result), flat_gradients(surrogate))
    assert result.loss_sum == pytest.approx(total, rel=2e-5)


@pytest.mark.parametrize("max_batch_tokens", [16, 64, 2048])
def test_pairs_stay_together_whatever_the_batches(
    tiny: BaseModel,
    factors: Factors,
    rows: list[tuple[np.ndarray, Arrays]],
    max_batch_tokens: int,
) -> None:
    pairs = [*rows, rows[2], rows[1]]
    data = datums(pairs, "ref_logprobs", "weights")
    config: LossFnConfig = {"beta": 0.05, "label_smoothing": 0.1}

    def run(data: list[Datum], max_batch_tokens: int = 2048) -> CallResult:
        options = {"max_batch_tokens": max_batch_tokens}
        return run_data(tiny, SPEC, factors, data, loss=LOSSES["dpo"], config=config, **options)

    whole = run(data, max_batch_tokens)
    one_by_one = [run(data[first : first + 2]) for first in (0, 2, 4)]
    assert whole.loss_sum == pytest.approx(sum(each.loss_sum for each in one_by_one), rel=1e-5)
    gradients = np.sum([flat_gradients(each) for each in one_by_one], axis=0)
    assert_close(flat_gradients(whole), gradients)
    settings, twin = complete_settings(LOSSES["dpo"], config), TWINS["dpo"]
    assert twin.function.combine is not None
    sums = [
        float(
            np.where(
                inputs["target_tokens"] != -100,
                inputs["weights"] * (logprobs.astype(np.float64) - inputs["ref_logprobs"]),
                0.0,
            ).sum()
        )
        for (_, inputs), logprobs in zip(pairs, whole.logprobs, strict=True)
    ]
    expected = twin.function.combine(np.reshape(sums, (-1, 2)), settings).sum()
    assert whole.loss_sum == pytest.approx(expected, rel=1e-5)


def test_a_pair_may_bring_weights_on_one_side_only(
    tiny: BaseModel, factors: Factors, rows: list[tuple[np.ndarray, Arrays]]
) -> None:
    weighted, plain = datums(rows[:1], "ref_logprobs", "weights"), datums(rows[1:2], "ref_logprobs")
    ones = (rows[1][0], {**rows[1][1], "weights": np.ones(LENGTHS[1], np.float32)})
    both = datums([rows[0], ones], "ref_logprobs", "weights")
    mixed = run_data(tiny, SPEC, factors, [*weighted, *plain], loss=LOSSES["dpo"])
    alike = run_data(tiny, SPEC, factors, both, loss=LOSSES["dpo"])
    assert mixed.loss_sum == alike.loss_sum
    np.testing.assert_array_equal(flat_gradients(mixed), flat_gradients(alike))


def test_likeliest_tokens_are_those_of_the_logits(
    tiny: BaseModel, factors: Factors, rows: list[tuple[np.ndarray, Arrays]]
) -> None:
    found = run_data(tiny, SPEC, factors, datums(rows), top_k=20, max_logits_bytes=2**14)
    for (tokens, _), ids, logprobs in zip(
        rows, found.likeliest_ids, found.likeliest_logprobs, strict=True
    ):
        logits = final_logits(tiny, tokens[None], factors, scale=SPEC.scale)[0].astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        ranked = -np.sort(-expected, axis=-1)[:, :20]
        np.testing.assert_allclose(logprobs, ranked, atol=1e-4)
        np.testing.assert_allclose(np.take_along_axis(expected, ids, -1), ranked, atol=1e-4)


def test_another_number_in_the_config_compiles_nothing(
    tiny: BaseModel, factors: Factors, rows: list[tuple[np.ndarray, Arrays]]
) -> None:
    data = datums(rows, "logprobs", "advantages")
    sums = [
        run_data(tiny, SPEC, factors, data, loss=LOSSES["dro"], config={"beta": beta}).loss_sum
        for beta in (0.05, 0.5)
    ]
    compiled = num_compiled()
    run_data(tiny, SPEC, factors, data, loss=LOSSES["dro"], config={"beta": 0.7})
    assert num_compiled() == compiled
    assert sums[0] != sums[1]
