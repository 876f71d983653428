"""A checkpoint resumes in another process as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.contract.conftest import ADAM, Setup, folder_digest

from loops_core import Datum, ServiceClient, TrainingClient

_OTHER_PROCESS = """
import json, sys
from pathlib import Path
from loops_core import AdamParams, Datum, ServiceClient

url, base_model, path, load, steps, batch, out = json.loads(sys.stdin.read())
data = [Datum.model_validate(datum) for datum in batch]
with ServiceClient(base_url=url) as service:
    with service.create_lora_training_client(base_model, rank=2) as client:
        getattr(client, load)(path).result()
        for _ in range(steps):
            client.forward_backward(data)
            client.optim_step(AdamParams(learning_rate=1e-2)).result()
        client.save_state("end").result()
        client.download_checkpoint(name="end", target="trainer", dest_dir=Path(out))
"""


def _steps(client: TrainingClient, batch: list[Datum], count: int) -> None:
    for _ in range(count):
        client.forward_backward(batch)
        client.optim_step(ADAM).result()


def _elsewhere(
    setup: Setup, path: str, load: str, steps: int, batch: list[Datum], out: Path
) -> None:
    """Load a checkpoint in a new process, go on for some steps, and write the state to `out`."""
    data = [datum.model_dump(mode="json") for datum in batch]
    order = json.dumps([setup.url, setup.base_model, path, load, steps, data, str(out)])
    subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], input=order, text=True, check=True, timeout=240
    )


@pytest.mark.slow
def test_load_state_with_optimizer_goes_on_with_the_same_bytes_in_another_process(
    setup: Setup, trainer: TrainingClient, batch: list[Datum], tmp_path: Path
) -> None:
    _steps(trainer, batch, 2)
    path = trainer.save_state("middle").result().path
    _steps(trainer, batch, 3)
    trainer.save_state("end").result()
    trainer.download_checkpoint(name="end", target="trainer", dest_dir=tmp_path / "here")
    _elsewhere(setup, path, "load_state_with_optimizer", 3, batch, tmp_path / "there")
    assert folder_digest(tmp_path / "here") == folder_digest(tmp_path / "there")


@pytest.mark.slow
def test_gradients_that_wait_for_their_step_are_part_of_a_checkpoint(
    service: ServiceClient, setup: Setup, trainer: TrainingClient, batch: list[Datum]
) -> None:
    trainer.forward_backward(batch)
    path = trainer.save_state("pending").result().path
    metrics = trainer.optim_step(ADAM).result().metrics
    with service.create_lora_training_client(setup.base_model, rank=2) as other:
        other.load_state_with_optimizer(path).result()
        assert other.optim_step(ADAM).result().metrics == metrics


def test_load_state_differs_by_fresh_moments_and_step_only(
    service: ServiceClient, setup: Setup, trainer: TrainingClient, batch: list[Datum]
) -> None:
    _steps(trainer, batch, 2)
    path = trainer.save_state("weights").result().path
    with service.create_lora_training_client(setup.base_model, rank=2) as other:
        assert other.load_state(path).result().step == 0
        there, here = other.forward(batch).result(), trainer.forward(batch).result()
        for one, two in zip(there.loss_fn_outputs, here.loss_fn_outputs, strict=True):
            np.testing.assert_array_equal(one["logprobs"].data, two["logprobs"].data)
        _steps(other, batch, 1)
        _steps(trainer, batch, 1)
        assert other.forward(batch).result().loss != trainer.forward(batch).result().loss


def test_saving_a_name_again_replaces_what_it_means(
    trainer: TrainingClient, batch: list[Datum]
) -> None:
    first = trainer.save_state("same").result().path
    _steps(trainer, batch, 1)
    again = trainer.save_state("same").result().path
    assert first == again
    listed = [c for c in trainer.list_checkpoints() if c.checkpoint_id == "same"]
    assert len(listed) == 1
    assert trainer.load_state_with_optimizer(again).result().step == 1
