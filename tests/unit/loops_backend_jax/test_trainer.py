"""The trainer's state machine: what each call changes, and what a refused call leaves alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, make_datum

from loops_backend_jax.backend import JaxBackend
from loops_backend_jax.config import BackendSettings
from loops_backend_jax.trainer import JaxTrainer
from loops_core.errors import CheckpointError, RemoteOpError, UsageError
from loops_core.protocols import Array, LossFunction, TrainerSpec
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig

pytestmark = pytest.mark.slow  # the first pass compiles

DATA = [make_datum([5, 6, 7, 8]), make_datum([9, 10, 11])]
ADAM = AdamParams(learning_rate=1e-2)
PLAIN: LossFnConfig = {}
SKIP: LossFnConfig = {"skip_token_normalization": True}


def forward(trainer: JaxTrainer, data: list[Datum] = DATA) -> ForwardBackwardOutput:
    return trainer.forward(data, loss_fn="cross_entropy", loss_fn_config={})


def learn(
    trainer: JaxTrainer, data: list[Datum] = DATA, config: LossFnConfig | None = None
) -> ForwardBackwardOutput:
    return trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config=config or {})


def take_step(trainer: JaxTrainer) -> dict[str, float]:
    learn(trainer)
    return trainer.optim_step(ADAM)


def test_forward_changes_nothing(trainer: JaxTrainer) -> None:
    before = trainer.digest()
    forward(trainer)
    assert trainer.digest() == before


def test_forward_returns_what_forward_backward_returns(trainer: JaxTrainer) -> None:
    one, other = forward(trainer), learn(trainer)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)  # two programs, float32
    for a, b in zip(one.loss_fn_outputs, other.loss_fn_outputs, strict=True):
        np.testing.assert_allclose(
            a["logprobs"].to_numpy(), b["logprobs"].to_numpy(), rtol=0, atol=1e-5
        )


def test_the_loss_is_the_mean_over_active_positions(trainer: JaxTrainer) -> None:
    output = forward(trainer)
    logprobs = np.concatenate([o["logprobs"].to_numpy() for o in output.loss_fn_outputs])
    assert np.isnan(logprobs).tolist() == [False] * 3 + [True] + [False] * 2 + [True]
    assert output.loss == pytest.approx(-float(np.nanmean(logprobs)), rel=1e-6)
    assert output.metrics["active_tokens"] == 5.0
    assert output.metrics["loss:sum"] == pytest.approx(5 * output.loss)


def test_learning_lowers_the_loss(trainer: JaxTrainer) -> None:
    before = forward(trainer).loss
    for _ in range(5):
        take_step(trainer)
    assert forward(trainer).loss < 0.5 * before


def test_a_step_reports_finite_metrics_and_empties_the_gradients(trainer: JaxTrainer) -> None:
    metrics = take_step(trainer)
    assert set(metrics) == {"grad_norm", "learning_rate", "step", "active_tokens"}
    assert (metrics["step"], metrics["learning_rate"], metrics["active_tokens"]) == (1, 1e-2, 5)
    assert math.isfinite(metrics["grad_norm"])
    with pytest.raises(UsageError, match="no gradients since the last step"):
        trainer.optim_step(ADAM)
    assert trainer.step == 1


def test_normalising_divides_by_the_active_positions_of_all_calls(trainer: JaxTrainer) -> None:
    norms: list[float] = []
    for config in (PLAIN, SKIP):
        trainer.init(rank=4, seed=0)
        learn(trainer, DATA[:1], config)
        learn(trainer, DATA[1:], config)
        norms.append(trainer.optim_step(ADAM)["grad_norm"])
    assert norms[1] == pytest.approx(5 * norms[0], rel=1e-5)  # float32


def test_skipping_normalisation_is_echoed(trainer: JaxTrainer) -> None:
    assert learn(trainer, DATA, SKIP).metrics["skip_token_normalization"] == 1.0
    trainer.optim_step(ADAM)
    assert "skip_token_normalization" not in learn(trainer).metrics


def test_mixed_normalisation_is_refused_until_the_next_step(trainer: JaxTrainer) -> None:
    learn(trainer, DATA, SKIP)
    before = trainer.digest()
    with pytest.raises(UsageError, match="skip_token_normalization is False"):
        learn(trainer)
    assert trainer.digest() == before
    trainer.optim_step(ADAM)
    learn(trainer)


def test_positions_without_weight_move_nothing(trainer: JaxTrainer) -> None:
    weights = np.zeros(3, np.float32)
    output = learn(trainer, [make_datum([5, 6, 7], weights=weights)])
    assert output.metrics["active_tokens"] == 0.0
    assert np.isfinite(output.loss_fn_outputs[0]["logprobs"].to_numpy()[:2]).all()
    assert trainer.optim_step(ADAM)["grad_norm"] == 0.0


def test_a_saved_state_goes_on_as_if_never_stopped(
    trainer: JaxTrainer, open_trainer: Callable[[], JaxTrainer], tmp_path: Path
) -> None:
    take_step(trainer)
    learn(trainer, DATA[:1], SKIP)
    trainer.save(tmp_path)
    other = open_trainer()
    other.load(tmp_path, optimizer=True)
    assert other.digest() == trainer.digest()
    for one in (trainer, other):
        learn(one, DATA[1:], SKIP)
        one.optim_step(ADAM)
        take_step(one)
    assert other.digest() == trainer.digest()


def test_weights_only_start_with_fresh_moments(
    trainer: JaxTrainer, open_trainer: Callable[[], JaxTrainer], tmp_path: Path
) -> None:
    take_step(trainer)
    learn(trainer)
    trainer.save(tmp_path)
    other = open_trainer()
    other.load(tmp_path, optimizer=False)
    assert (other.rank, other.step) == (4, 0)
    assert forward(other).loss == forward(trainer).loss
    with pytest.raises(UsageError, match="no gradients"):
        other.optim_step(ADAM)


def test_an_exported_adapter_is_adopted_with_its_rank(
    trainer: JaxTrainer, open_trainer: Callable[[], JaxTrainer], tmp_path: Path
) -> None:
    take_step(trainer)
    trainer.export_adapter(tmp_path)
    other = open_trainer()
    other.init(rank=2, seed=1)
    other.load(tmp_path, optimizer=False)
    assert other.rank == 4
    assert forward(other).loss == forward(trainer).loss
    before = other.digest()
    with pytest.raises(CheckpointError, match="without optimizer state"):
        other.load(tmp_path, optimizer=True)
    assert other.digest() == before


def test_init_starts_over(trainer: JaxTrainer) -> None:
    before = trainer.digest()
    take_step(trainer)
    assert trainer.digest() != before
    trainer.init(rank=4, seed=0)
    assert trainer.digest() == before
    trainer.init(rank=4, seed=1)
    assert trainer.digest() != before


BAD_CALLS: dict[str, Callable[[JaxTrainer], object]] = {
    "data is empty": lambda t: learn(t, []),
    "loss_fn is 'hinge'": lambda t: t.forward_backward(DATA, loss_fn="hinge", loss_fn_config={}),
    "'beta'] is not a setting of cross_entropy": lambda t: learn(t, DATA, {"beta": 1.0}),
    "data[1].model_input.chunks[0].tokens[0] is 320": lambda t: learn(
        t, [DATA[0], make_datum([320])]
    ),
    "has 65 positions": lambda t: learn(t, [make_datum([3] * 65)]),
    "rank is 0": lambda t: t.init(rank=0, seed=0),
    "rank is 65": lambda t: t.init(rank=65, seed=0),
    "state.json cannot be read": lambda t: t.load(Path("nowhere"), optimizer=True),
}


@pytest.mark.parametrize("message", BAD_CALLS)
def test_a_refused_call_changes_nothing_and_the_next_works(
    trainer: JaxTrainer, message: str
) -> None:
    learn(trainer)
    before = trainer.digest()
    with pytest.raises((UsageError, CheckpointError)) as caught:
        BAD_CALLS[message](trainer)
    assert message in str(caught.value)
    assert trainer.digest() == before
    learn(trainer)
    trainer.optim_step(ADAM)


def test_likeliest_tokens_come_where_there_is_a_target(trainer: JaxTrainer) -> None:
    def run(top_k: int) -> ForwardBackwardOutput:
        return trainer.forward(
            DATA, loss_fn="cross_entropy", loss_fn_config={}, top_k_logprobs=top_k
        )

    found = run(3).loss_fn_outputs[1]  # three tokens: the last predicts nothing
    assert (found["topk_ids"].shape, found["topk_ids"].dtype) == ([3, 3], "int64")
    assert (found["topk_logprobs"].shape, found["topk_logprobs"].dtype) == ([3, 3], "float32")
    ids, logprobs = found["topk_ids"].to_numpy(), found["topk_logprobs"].to_numpy()
    assert (ids[2] == -100).all()
    assert np.isnan(logprobs[2]).all()
    assert (np.diff(logprobs[:2]) <= 0).all()
    np.testing.assert_array_equal(run(1).loss_fn_outputs[1]["topk_ids"].to_numpy(), ids[:, :1])
    assert trainer.describe().max_top_k_logprobs == 20
    with pytest.raises(UsageError, match="top_k_logprobs is 21; expected 0 to 20"):
        run(21)


def test_positions_without_advantage_show_no_logprob(trainer: JaxTrainer) -> None:
    ones = np.ones(3, np.float32)
    data = [make_datum([9, 10, 11], logprobs=-ones, advantages=np.asarray([1, 0, 1], np.float32))]
    output = trainer.forward_backward(data, loss_fn="ppo", loss_fn_config={})
    found = output.loss_fn_outputs[0]
    shown = found["logprobs"].to_numpy()
    assert shown[0] < 0
    assert shown[1] == 0
    assert np.isnan(shown[2])
    assert found["elementwise_loss"].to_numpy()[1:].tolist() == [0.0, 0.0]
    assert output.metrics["active_tokens"] == 1


def test_half_a_pair_is_refused(trainer: JaxTrainer) -> None:
    row = make_datum([9, 10, 11], ref_logprobs=-np.ones(3, np.float32))
    with pytest.raises(UsageError, match="data holds 3 datums: dpo expects a multiple of 2"):
        trainer.forward_backward([row] * 3, loss_fn="dpo", loss_fn_config={})


def test_a_step_that_is_not_finite_fails_and_changes_nothing(trainer: JaxTrainer) -> None:
    learn(trainer)
    before = trainer.digest()
    with pytest.raises(RemoteOpError, match="NaN or infinity") as caught:
        trainer.optim_step(AdamParams(learning_rate=3e38, weight_decay=1e6))
    assert caught.value.error_class == "FloatingPointError"
    assert trainer.digest() == before
    trainer.optim_step(ADAM)


def test_a_loss_that_is_not_finite_fails_and_changes_nothing(trainer: JaxTrainer) -> None:
    learn(trainer)
    before = trainer.digest()
    huge = np.full(3, 3e38, np.float32)
    with pytest.raises(RemoteOpError, match="NaN or infinity"):
        learn(trainer, [make_datum([5, 6, 7], weights=huge)])
    assert trainer.digest() == before


def steep(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
    """Return zeros whose slope is infinite."""
    del inputs, settings
    return (0 * target_logprobs) ** 0.5


def test_a_gradient_that_is_not_finite_fails_and_changes_nothing() -> None:
    loss = LossFunction(name="steep", compute=steep, source="made up for this test")
    backend = JaxBackend(BackendSettings(), (loss,))
    trainer = backend.open_trainer(TrainerSpec(base_model="tiny", model_dir=GOLDEN / "qwen3"))
    trainer.init(rank=4, seed=0)
    learn(trainer)
    before = trainer.digest()
    with pytest.raises(RemoteOpError, match="a gradient holds NaN or infinity"):
        trainer.forward_backward(DATA, loss_fn="steep", loss_fn_config={})
    assert trainer.digest() == before


def test_nothing_works_before_init_but_describe(open_trainer: Callable[[], JaxTrainer]) -> None:
    fresh = open_trainer()
    assert fresh.describe().max_seq_len == 64
    for call in (fresh.digest, lambda: learn(fresh), lambda: fresh.rank):
        with pytest.raises(UsageError, match="expected init or load first"):
            call()


def test_a_closed_trainer_says_so(trainer: JaxTrainer) -> None:
    trainer.close()
    trainer.close()
    with pytest.raises(UsageError, match="closed"):
        learn(trainer)


SCRIPT = """
import sys
from pathlib import Path
from loops_backend_jax.backend import JaxBackend
from loops_backend_jax.config import BackendSettings
from loops_core.protocols import TrainerSpec
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.training import AdamParams

spec = TrainerSpec(base_model="tiny", model_dir=Path(sys.argv[1]), max_seq_len=64)
trainer = JaxBackend(BackendSettings()).open_trainer(spec)
trainer.load(Path(sys.argv[2]), optimizer=True)
data = [Datum(model_input=ModelInput.from_ints(t)) for t in ([5, 6, 7, 8], [9, 10, 11])]
for _ in range(2):
    trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
    trainer.optim_step(AdamParams(learning_rate=1e-2))
print(trainer.digest())
"""


def test_another_process_goes_on_with_the_same_bytes(trainer: JaxTrainer, tmp_path: Path) -> None:
    take_step(trainer)
    trainer.save(tmp_path)
    for _ in range(2):
        take_step(trainer)
    command = [sys.executable, "-c", SCRIPT, str(GOLDEN / "qwen3"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == trainer.digest()


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_a_damaged_save_is_refused(trainer: JaxTrainer, tmp_path: Path, file: str) -> None:
    trainer.save(tmp_path)
    before = trainer.digest()
    whole = bytearray((tmp_path / file).read_bytes())
    (tmp_path / file).write_bytes(whole[:-20])
    with pytest.raises(CheckpointError, match=file):
        trainer.load(tmp_path, optimizer=True)
    whole[-9] ^= 1
    (tmp_path / file).write_bytes(whole)
    with pytest.raises(CheckpointError):
        trainer.load(tmp_path, optimizer=False)
    assert trainer.digest() == before


def test_a_save_on_another_base_model_is_refused(trainer: JaxTrainer, tmp_path: Path) -> None:
    trainer.save(tmp_path)
    path = tmp_path / "state.json"
    fields = json.loads(path.read_text())
    fields["model"]["num_layers"] = 4
    path.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="another base model: num_layers differ"):
        trainer.load(tmp_path, optimizer=True)
