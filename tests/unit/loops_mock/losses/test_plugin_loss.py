"""A plugin's loss trains on the mock as one of its own does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loops_core.errors import PluginError
from loops_core.protocols import BackendConfig, LossFunction, TrainerSpec
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams
from loops_mock.backend import MockBackend
from loops_mock.losses import EXACT_LOSSES
from loops_mock.trainer import MockTrainer


def plugin(name: str) -> LossFunction:
    """Return one of the protocol's losses under a name of a plugin's."""
    return dataclasses.replace(EXACT_LOSSES[name].function, name=f"my_{name}")


@pytest.fixture
def opened(model_dir: Path) -> MockTrainer:
    config = BackendConfig(losses=tuple(map(plugin, ["cross_entropy", "dro", "dpo"])))
    trainer = MockBackend(config).open_trainer(
        TrainerSpec(base_model="mock-test", model_dir=model_dir)
    )
    trainer.init(rank=2, seed=0)
    return trainer


@pytest.mark.parametrize("name", ["cross_entropy", "dro", "dpo"])
def test_its_gradient_is_that_of_the_same_loss_written_down(
    opened: MockTrainer, make_datum: Callable[..., Datum], name: str
) -> None:
    data = [make_datum([1, 2, 3], [2, -100, 4]), make_datum([5, 6], [6, 7])]
    for datum in data:
        for key in ("logprobs", "ref_logprobs", "advantages"):
            values = TensorData.from_numpy(np.linspace(-2.0, -1.0, datum.model_input.length))
            datum.loss_fn_inputs[key] = values
    assert f"my_{name}" in opened.describe().losses
    norms: list[float] = []
    for loss_fn in (name, f"my_{name}"):
        opened.init(rank=2, seed=0)
        opened.forward_backward(data, loss_fn=loss_fn, loss_fn_config={})
        norms.append(opened.optim_step(AdamParams())["grad_norm"])
    # Differences are good to 1e-10 of values of about 1.
    assert norms[1] == pytest.approx(norms[0], rel=1e-8)


def test_a_name_that_is_taken_is_refused() -> None:
    taken = EXACT_LOSSES["ppo"].function
    with pytest.raises(PluginError, match="two losses are named 'ppo'"):
        MockBackend(BackendConfig(losses=(taken,)))
