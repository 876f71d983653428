"""What the trainer promises: it learns, resumes bit for bit, and a refused call changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from loops_core.errors import CheckpointError, LoopsError, UnsupportedError, UsageError
from loops_core.types.datum import Datum, ImageChunk, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams, LossFnConfig, LossFnType
from loops_mock.trainer import MockTrainer

ADAM = AdamParams(learning_rate=0.05)
MakeTrainer = Callable[[], MockTrainer]

# Computed once; every platform and every NumPy must arrive at it.
BYTES_AFTER_THREE_STEPS = "9c3a98b3b6c8e50476296bf02f27b44f4649cb3a50150bd7db23a5e9a62b3129"


def run_steps(trainer: MockTrainer, data: list[Datum], steps: int) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        output = trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
        trainer.optim_step(ADAM)
        losses.append(output.loss)
    return losses


@pytest.mark.parametrize("rank", [1, 2, 16])
def test_the_loss_falls_below_half(
    make_trainer: MakeTrainer, make_datum: Callable[..., Datum], rank: int
) -> None:
    trainer = make_trainer()
    trainer.init(rank=rank, seed=0)
    losses = run_steps(trainer, [make_datum([1, 2, 3, 4, 5], [2, 3, 4, 5, 1])], 40)
    assert losses[-1] < losses[0] / 2


def test_a_fresh_adapter_changes_no_logprob(make_trainer: MakeTrainer, data: list[Datum]) -> None:
    outputs: list[list[float]] = []
    for rank, seed in [(1, 0), (8, 5)]:
        trainer = make_trainer()
        trainer.init(rank=rank, seed=seed)
        output = trainer.forward(data, loss_fn="cross_entropy", loss_fn_config={})
        outputs.append(output.loss_fn_outputs[0]["logprobs"].tolist())
    assert outputs[0] == outputs[1]


def test_rank_and_alpha_matter(make_trainer: MakeTrainer, data: list[Datum]) -> None:
    losses: set[float] = set()
    for rank in (1, 2, 4):
        trainer = make_trainer()
        trainer.init(rank=rank, seed=0)
        losses.add(run_steps(trainer, data, 2)[-1])
    assert len(losses) == 3


def test_init_starts_over_from_its_seed(trainer: MockTrainer, data: list[Datum]) -> None:
    trainer.init(rank=2, seed=1)
    first = trainer.digest()
    run_steps(trainer, data, 2)
    trainer.init(rank=2, seed=1)
    assert (trainer.digest(), trainer.step, trainer.rank) == (first, 0, 2)
    trainer.init(rank=2, seed=2)
    assert trainer.digest() != first


def test_the_same_calls_give_the_same_bytes(make_trainer: MakeTrainer, data: list[Datum]) -> None:
    digests: set[str] = set()
    for _ in range(2):
        trainer = make_trainer()
        trainer.init(rank=3, seed=7)
        run_steps(trainer, data, 3)
        digests.add(trainer.digest())
    assert len(digests) == 1


def test_the_bytes_of_a_short_run_are_pinned(make_trainer: MakeTrainer, data: list[Datum]) -> None:
    trainer = make_trainer()
    trainer.init(rank=3, seed=7)
    run_steps(trainer, data, 3)
    assert trainer.digest() == BYTES_AFTER_THREE_STEPS


def test_forward_changes_nothing(trainer: MockTrainer, data: list[Datum]) -> None:
    before = trainer.digest()
    output = trainer.forward(data, loss_fn="cross_entropy", loss_fn_config={})
    assert trainer.digest() == before
    again = trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
    assert output == again
    assert trainer.digest() != before


def test_a_batch_in_several_calls_leaves_the_same_bits(
    make_trainer: MakeTrainer, data: list[Datum]
) -> None:
    whole, parts = make_trainer(), make_trainer()
    for trainer in (whole, parts):
        trainer.init(rank=3, seed=7)
        run_steps(trainer, data, 1)
    whole.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
    for datum in data:
        parts.forward_backward([datum], loss_fn="cross_entropy", loss_fn_config={})
    assert whole.digest() == parts.digest()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_resumed_trainer_goes_on_with_the_same_bytes(
    trainer: MockTrainer,
    make_trainer: MakeTrainer,
    data: list[Datum],
    tmp_path: Path,
    steps: int,
) -> None:
    path = tmp_path / "saved"
    path.mkdir()
    trainer.save(path)
    resumed = make_trainer()
    resumed.load(path, optimizer=True)
    assert run_steps(resumed, data, steps) == run_steps(trainer, data, steps)
    assert resumed.digest() == trainer.digest()


def test_load_without_optimizer_takes_the_weights_only(
    trainer: MockTrainer, make_trainer: MakeTrainer, data: list[Datum], tmp_path: Path
) -> None:
    path = tmp_path / "saved"
    path.mkdir()
    trainer.save(path)
    loaded = make_trainer()
    loaded.load(path, optimizer=False)
    assert (loaded.step, loaded.rank) == (0, 3)
    forward = [
        t.forward(data, loss_fn="cross_entropy", loss_fn_config={}) for t in (trainer, loaded)
    ]
    assert forward[0] == forward[1]
    with pytest.raises(UsageError, match="no gradients"):
        loaded.optim_step(ADAM)


def test_an_exported_adapter_is_adopted_without_rounding(
    trainer: MockTrainer, make_trainer: MakeTrainer, data: list[Datum], tmp_path: Path
) -> None:
    saved, exported = tmp_path / "saved", tmp_path / "exported"
    for path in (saved, exported):
        path.mkdir()
    trainer.save(saved)
    trainer.export_adapter(exported)
    from_state, from_adapter = make_trainer(), make_trainer()
    from_state.load(saved, optimizer=False)
    from_adapter.load(exported, optimizer=False)
    assert from_adapter.digest() == from_state.digest()
    with pytest.raises(CheckpointError, match="no optimizer state"):
        from_adapter.load(exported, optimizer=True)
    assert from_adapter.digest() == from_state.digest()


def test_skipped_normalisation_is_echoed(trainer: MockTrainer, data: list[Datum]) -> None:
    trainer.optim_step(ADAM)
    config: LossFnConfig = {"skip_token_normalization": True}
    output = trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config=config)
    assert output.metrics["skip_token_normalization"] == 1.0


def test_zero_weights_still_return_logprobs(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    datum = make_datum([1, 2], [2, 3], weights=[0.0, 0.0])
    output = trainer.forward([datum], loss_fn="cross_entropy", loss_fn_config={})
    assert np.isfinite(output.loss_fn_outputs[0]["logprobs"].to_numpy()).all()
    assert (output.loss, output.metrics["active_tokens"]) == (0.0, 0.0)


def test_text_without_targets_is_scored_on_itself(
    trainer: MockTrainer, make_datum: Callable[..., Datum]
) -> None:
    own, given = (
        trainer.forward([datum], loss_fn="cross_entropy", loss_fn_config={})
        for datum in (make_datum([4, 5, 6]), make_datum([4, 5, 6], [5, 6, -100]))
    )
    assert own == given


def with_inputs(**inputs: TensorData) -> list[Datum]:
    return [Datum(model_input=ModelInput.from_ints([1, 2, 3]), loss_fn_inputs=inputs)]


def tensor(values: object, dtype: str = "int64") -> TensorData:
    return TensorData.from_numpy(np.asarray(values, dtype=dtype))


IMAGE = ModelInput(chunks=[ImageChunk.from_bytes(b"png", "png", 2)])
TARGETS = tensor([1, 2, 3])

BAD_DATA: dict[str, list[Datum]] = {
    "empty data": [],
    "no token": [Datum(model_input=ModelInput.empty())],
    "negative token": [Datum(model_input=ModelInput.from_ints([-1, 1]))],
    "token outside the vocabulary": [Datum(model_input=ModelInput.from_ints([11, 1]))],
    "too long": [Datum(model_input=ModelInput.from_ints([1] * 33))],
    "image": [Datum(model_input=IMAGE)],
    "float targets": with_inputs(target_tokens=tensor([1.0, 2.0, 3.0], "float32")),
    "too few targets": with_inputs(target_tokens=tensor([1, 2])),
    "no targets": with_inputs(target_tokens=tensor(np.zeros((3, 0)))),
    "three axes": with_inputs(target_tokens=tensor(np.zeros((3, 1, 1)))),
    "negative target": with_inputs(target_tokens=tensor([1, 2, -99])),
    "target outside the vocabulary": with_inputs(target_tokens=tensor([1, 2, 11])),
    "weights of another shape": with_inputs(
        target_tokens=TARGETS, weights=tensor([1.0, 1.0], "float32")
    ),
    "weights a scalar": with_inputs(target_tokens=TARGETS, weights=tensor([1.0], "float32")),
    "boolean weights": with_inputs(target_tokens=TARGETS, weights=tensor([1, 1, 0], "bool")),
    "weights NaN": with_inputs(target_tokens=TARGETS, weights=tensor([1, np.nan, 0], "float32")),
    "weights infinite": with_inputs(target_tokens=TARGETS, weights=tensor([np.inf] * 3, "float32")),
    "weights too large": with_inputs(target_tokens=TARGETS, weights=tensor([1e39] * 3, "float64")),
    "losses too large": with_inputs(target_tokens=TARGETS, weights=tensor([3e38] * 3, "float32")),
    "several numbers of targets": [
        *with_inputs(target_tokens=tensor(np.ones((3, 2)))),
        *with_inputs(target_tokens=tensor(np.ones((3, 4)))),
    ],
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_and_leaves_the_state(trainer: MockTrainer, name: str) -> None:
    before = trainer.digest()
    with pytest.raises(UsageError, match=r"data.*expected") as caught:
        trainer.forward_backward(BAD_DATA[name], loss_fn="cross_entropy", loss_fn_config={})
    assert trainer.digest() == before
    assert caught.value.field is not None
    named = {"weights": "weights", "target": "target_tokens", "token": "model_input"}
    for word, field in named.items():
        if name.startswith(word):
            assert field in caught.value.field


def test_an_image_is_unsupported(trainer: MockTrainer) -> None:
    with pytest.raises(UnsupportedError, match="image"):
        trainer.forward(BAD_DATA["image"], loss_fn="cross_entropy", loss_fn_config={})


def bad_calls(
    trainer: MockTrainer, data: list[Datum], empty: Path
) -> dict[str, Callable[[], object]]:
    def train(loss_fn: str = "cross_entropy", *, top_k: int = 0, **config: float | str) -> object:
        return trainer.forward_backward(
            data,
            loss_fn=loss_fn,
            loss_fn_config={**config},
            top_k_logprobs=top_k,
        )

    return {
        "loss_fn": lambda: train("focal"),
        "config key": lambda: train(beta=1.0),
        "config type": lambda: train(skip_token_normalization=1),
        "mixed normalisation": lambda: train(skip_token_normalization=True),
        "top_k_logprobs": lambda: train(top_k=12),
        "learning rate": lambda: trainer.optim_step(AdamParams(learning_rate=1e300)),
        "rank 0": lambda: trainer.init(rank=0, seed=0),
        "rank -1": lambda: trainer.init(rank=-1, seed=0),
        "rank 257": lambda: trainer.init(rank=257, seed=0),
        "load of nothing": lambda: trainer.load(empty, optimizer=False),
        "resume of nothing": lambda: trainer.load(empty, optimizer=True),
    }


@pytest.mark.parametrize("number", range(11))
def test_a_refused_call_leaves_the_state_and_the_next_one_works(
    trainer: MockTrainer, data: list[Datum], tmp_path: Path, number: int
) -> None:
    before, calls = trainer.digest(), list(bad_calls(trainer, data, tmp_path).values())
    with pytest.raises(LoopsError, match="expected"):
        calls[number]()
    assert trainer.digest() == before
    trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
    assert trainer.optim_step(ADAM)["step"] == 2.0


def test_every_call_needs_an_adapter_first(
    make_trainer: MakeTrainer, data: list[Datum], tmp_path: Path
) -> None:
    trainer = make_trainer()
    calls: list[Callable[[], object]] = [
        lambda: trainer.rank,
        lambda: trainer.step,
        trainer.digest,
        lambda: trainer.save(tmp_path),
        lambda: trainer.export_adapter(tmp_path),
        lambda: trainer.optim_step(ADAM),
        lambda: trainer.forward(data, loss_fn="cross_entropy", loss_fn_config={}),
        lambda: trainer.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={}),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="init or load"):
            call()


def test_close_may_be_called_twice(trainer: MockTrainer) -> None:
    trainer.close()
    trainer.close()
    with pytest.raises(UsageError, match="no adapter"):
        trainer.digest()


def test_the_description_says_what_is_offered(trainer: MockTrainer) -> None:
    described = trainer.describe()
    assert (described.vocab_size, described.max_seq_len) == (11, 32)
    assert set(described.losses) == set(get_args(LossFnType))
    assert described.max_top_k_logprobs == 11  # the vocabulary; 20 where that is larger
    trainer.init(rank=described.max_lora_rank, seed=0)
