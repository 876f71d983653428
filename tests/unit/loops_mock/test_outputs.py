"""What a client sees of a pass: placeholders, and the likeliest tokens where asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loops_core.errors import UnsupportedError
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput, LossFnConfig
from loops_mock.trainer import MockTrainer

RL = ["importance_sampling", "ppo", "cispo", "dro", "dppo"]


def forward(
    trainer: MockTrainer, datum: Datum, loss_fn: str = "cross_entropy", *, top_k: int = 0
) -> ForwardBackwardOutput:
    config: LossFnConfig = {}
    return trainer.forward([datum], loss_fn=loss_fn, loss_fn_config=config, top_k_logprobs=top_k)


@pytest.fixture
def sampled(make_datum: Callable[..., Datum]) -> Datum:
    """A datum with a prompt: no target, then no advantage; then two sampled tokens."""
    datum = make_datum([1, 2, 3, 4], [-100, 3, 4, 5])
    inputs = {"logprobs": [np.nan, np.nan, -2.0, -2.5], "advantages": [1.0, 0.0, 1.0, -1.0]}
    for name, values in inputs.items():
        datum.loss_fn_inputs[name] = TensorData.from_numpy(np.array(values, dtype=np.float32))
    return datum


@pytest.mark.parametrize("loss_fn", RL)
def test_a_position_without_advantage_is_inactive_altogether(
    trainer: MockTrainer, sampled: Datum, loss_fn: str
) -> None:
    output = forward(trainer, sampled, loss_fn)
    plain = forward(trainer, sampled).loss_fn_outputs[0]["logprobs"].tolist()
    tensors = output.loss_fn_outputs[0]
    assert output.metrics["active_tokens"] == 2.0
    assert np.isnan(tensors["logprobs"].tolist()[0])
    assert tensors["logprobs"].tolist()[1:] == [0.0, *plain[2:]]
    losses = tensors["elementwise_loss"].tolist()
    assert losses[:2] == [0.0, 0.0]
    assert sum(losses) == pytest.approx(output.metrics["loss:sum"], rel=1e-6)  # float32


@pytest.mark.parametrize("loss_fn", RL)
def test_one_advantage_stands_for_all_positions(
    trainer: MockTrainer, sampled: Datum, loss_fn: str
) -> None:
    logprobs = TensorData.from_list([-1.0, -2.0, -3.0, -4.0])
    one, all_of_them = (
        sampled.model_copy(
            update={
                "loss_fn_inputs": {
                    **sampled.loss_fn_inputs,
                    "logprobs": logprobs,
                    "advantages": TensorData.from_list([0.5] * n),
                }
            }
        )
        for n in (1, 4)
    )
    assert forward(trainer, one, loss_fn) == forward(trainer, all_of_them, loss_fn)


def test_the_likeliest_tokens_are_named_where_there_is_a_target(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    datum = make_datum([1, 2, 3], [2, -100, 4])
    tensors = forward(trainer, datum, top_k=11).loss_fn_outputs[0]
    ids, best = tensors["topk_ids"].to_numpy(), tensors["topk_logprobs"].to_numpy()
    assert (ids.dtype, best.dtype, ids.shape, best.shape) == (
        np.dtype(np.int64),
        np.dtype(np.float32),
        (3, 11),
        (3, 11),
    )
    assert ids[1].tolist() == [-100] * 11
    assert np.isnan(best[1]).all()
    for row in (0, 2):
        assert sorted(ids[row].tolist()) == list(range(11))
        assert (np.diff(best[row]) <= 0).all()
        target = int(datum.loss_fn_inputs["target_tokens"].tolist()[row])
        at = ids[row].tolist().index(target)
        assert best[row][at] == tensors["logprobs"].to_numpy()[row]
    fewer = forward(trainer, datum, top_k=3).loss_fn_outputs[0]
    assert fewer["topk_ids"].to_numpy().tolist() == ids[:, :3].tolist()


def test_likeliest_tokens_are_not_told_unasked(trainer: MockTrainer, sampled: Datum) -> None:
    assert set(forward(trainer, sampled).loss_fn_outputs[0]) == {"logprobs", "elementwise_loss"}


def test_more_likely_tokens_than_there_are_is_unsupported(
    trainer: MockTrainer, sampled: Datum
) -> None:
    with pytest.raises(UnsupportedError, match="top_k_logprobs is 12; expected 0 to 11"):
        forward(trainer, sampled, top_k=12)
