"""A base class of tests for a backend: its trainers and samplers keep what the protocols promise.

```python
class TestMyBackend(BackendContract):
    base_model = "my-tiny-model"

    def open_backend(self) -> Backend:
        return MyBackend(BackendConfig())
```
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import pytest

from loops_core.errors import CheckpointError, LoopsError, UsageError
from loops_core.plugins import Plugins
from loops_core.protocols import Backend, Trainer, TrainerSpec
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput
from loops_mock.contract.sampler import SamplerContract
from loops_mock.strategies.program import Row

ROWS: Final = (Row((3, 4, 5, 6), (4, 5, 6, -100)), Row((7, 3), (3, 2)), Row((5,), (1,)))

ADAM: Final = AdamParams(learning_rate=1e-2)

_ROUNDING: Final = 1e-4
"""Float32 sums in another order differ by about 1e-6 in a log-probability."""


class BackendContract(SamplerContract):
    """The tests of a backend's trainers and samplers.

    Attributes:
        base_model: a small model, as a plugin of yours resolves it; or override `model_dir`.
        loss_fn: a loss that the trainer offers and that reads nothing but `target_tokens`.
        draws_adapters: whether a fresh adapter depends on its seed.
    """

    base_model: ClassVar[str] = "mock-tiny"
    loss_fn: ClassVar[str] = "cross_entropy"
    draws_adapters: ClassVar[bool] = True

    def open_backend(self) -> Backend:
        """Return the backend under test."""
        raise NotImplementedError("a subclass returns the Backend that is to be tested")

    def model_dir(self) -> Path:
        """Return the directory of the base model."""
        return Plugins.load().resolve_model(self.base_model)

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Generator[Backend]:
        """Open the backend once for the class."""
        opened = cls().open_backend()
        yield opened
        opened.close()
        opened.close()

    @pytest.fixture
    def open_trainer(self, backend: Backend) -> Generator[Callable[..., Trainer]]:
        """Return a function that opens a trainer with a fresh adapter."""
        opened: list[Trainer] = []
        spec = TrainerSpec(base_model=self.base_model, model_dir=self.model_dir())

        def make(*, rank: int = 2, seed: int = 7) -> Trainer:
            trainer = backend.open_trainer(spec)
            opened.append(trainer)
            trainer.init(rank=rank, seed=seed)
            return trainer

        yield make
        for trainer in opened:
            trainer.close()
            trainer.close()

    @pytest.fixture
    def trainer(self, open_trainer: Callable[..., Trainer]) -> Trainer:
        """Return a trainer in the middle of its work: a step done, gradients waiting."""
        trainer = open_trainer()
        self.train(trainer)
        self.backward(trainer, ROWS[:1])
        return trainer

    def forward(self, trainer: Trainer, rows: Sequence[Row] = ROWS) -> ForwardBackwardOutput:
        """Return the result of a forward pass."""
        return trainer.forward(datums(rows), loss_fn=self.loss_fn, loss_fn_config={})

    def backward(self, trainer: Trainer, rows: Sequence[Row] = ROWS) -> ForwardBackwardOutput:
        """Return the result of a forward and backward pass."""
        return trainer.forward_backward(datums(rows), loss_fn=self.loss_fn, loss_fn_config={})

    def train(self, trainer: Trainer, rows: Sequence[Row] = ROWS) -> dict[str, float]:
        """Return the metrics of a pass and its step."""
        self.backward(trainer, rows)
        return trainer.optim_step(ADAM)

    def test_describe_is_constant(self, trainer: Trainer) -> None:
        """Check that a trainer is what it was, whatever was done to it."""
        before = trainer.describe()
        self.train(trainer)
        trainer.init(rank=1, seed=0)
        after = trainer.describe()
        assert (before.vocab_size, before.max_seq_len) == (after.vocab_size, after.max_seq_len)
        assert set(before.losses) == set(after.losses)
        assert self.loss_fn in before.losses

    def test_nothing_works_before_init_or_load(self, backend: Backend, tmp_path: Path) -> None:
        """Check that a trainer without an adapter says so."""
        spec = TrainerSpec(base_model=self.base_model, model_dir=self.model_dir())
        trainer = backend.open_trainer(spec)
        trainer.describe()
        acts: list[Callable[[], object]] = [
            lambda: self.forward(trainer),
            lambda: self.backward(trainer),
            lambda: trainer.optim_step(ADAM),
            lambda: trainer.save(tmp_path),
            lambda: trainer.export_adapter(tmp_path),
            trainer.digest,
            lambda: trainer.step,
            lambda: trainer.rank,
        ]
        for act in acts:
            with pytest.raises(UsageError):
                act()
        trainer.close()

    def test_forward_changes_nothing(self, trainer: Trainer) -> None:
        """Check that a forward pass leaves weights, gradients and moments."""
        before = trainer.digest()
        first, again = self.forward(trainer), self.forward(trainer)
        assert trainer.digest() == before
        assert first == again

    def test_results_are_the_callers_and_never_change(self, trainer: Trainer) -> None:
        """Check that what a call returned stays as it was, and cannot be written to."""
        output = self.backward(trainer)
        before = output.model_copy(deep=True)
        metrics = trainer.optim_step(ADAM)
        kept = dict(metrics)
        self.train(trainer)
        assert output == before
        assert metrics == kept
        metrics.clear()  # the caller's own
        assert self.train(trainer)["step"] == trainer.step

    def test_data_is_left_as_it_was(self, trainer: Trainer) -> None:
        """Check that a pass does not write into the caller's tensors."""
        data = datums(ROWS)
        before = [datum.model_dump_json() for datum in data]
        trainer.forward_backward(data, loss_fn=self.loss_fn, loss_fn_config={})
        assert [datum.model_dump_json() for datum in data] == before

    def test_outputs_have_the_shape_of_the_targets(self, trainer: Trainer) -> None:
        """Check that every datum has its log-probabilities, NaN where the target is ignored."""
        output = self.forward(trainer)
        assert math.isfinite(output.loss)
        assert len(output.loss_fn_outputs) == len(ROWS)
        for row, tensors in zip(ROWS, output.loss_fn_outputs, strict=True):
            logprobs = tensors["logprobs"].to_numpy()
            ignored = np.asarray(row.targets) == -100
            assert logprobs.dtype == np.float32
            np.testing.assert_array_equal(np.isnan(logprobs), ignored)

    def test_a_row_does_not_see_the_others(self, trainer: Trainer) -> None:
        """Check that packing, padding and neighbours change no row's log-probabilities."""
        together = logprobs_of(self.forward(trainer))
        for number, row in enumerate(ROWS):
            (alone,) = logprobs_of(self.forward(trainer, [row]))
            np.testing.assert_allclose(alone, together[number], atol=_ROUNDING)

    def test_gradients_of_several_calls_add_up(self, open_trainer: Callable[..., Trainer]) -> None:
        """Check that a batch has one gradient, in one call and in several."""
        whole, parts = open_trainer(), open_trainer()
        self.backward(whole)
        for row in ROWS:
            self.backward(parts, [row])
        one, two = whole.optim_step(ADAM), parts.optim_step(ADAM)
        assert one["active_tokens"] == two["active_tokens"] == 6
        assert math.isclose(one["grad_norm"], two["grad_norm"], rel_tol=1e-3)

    def test_steps_count_and_lower_the_loss(self, open_trainer: Callable[..., Trainer]) -> None:
        """Check the metrics of steps, and that training trains."""
        trainer = open_trainer()
        losses: list[float] = []
        for number in range(1, 6):
            losses.append(self.backward(trainer).loss)
            metrics = trainer.optim_step(AdamParams(learning_rate=1e-3))
            assert metrics["step"] == number == trainer.step
            assert metrics["learning_rate"] == 1e-3
            assert metrics["grad_norm"] > 0
            assert all(math.isfinite(value) for value in metrics.values())
        assert losses[-1] < losses[0]

    def test_the_same_calls_give_the_same_bits(self, open_trainer: Callable[..., Trainer]) -> None:
        """Check that a trainer is a function of its calls and its seed."""
        one, two, other = open_trainer(), open_trainer(), open_trainer(seed=8)
        if self.draws_adapters:
            assert other.digest() != one.digest(), "another seed gives another adapter"
        for trainer in (one, two):
            self.train(trainer)
            self.backward(trainer)
        assert one.digest() == two.digest()
        assert self.forward(one) == self.forward(two)

    def test_a_call_that_raises_changes_nothing(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check the state after calls that only a trainer can refuse."""
        trainer.optim_step(ADAM)
        before = trainer.digest()
        (tmp_path / "adapter").mkdir()
        (tmp_path / "empty").mkdir()
        (tmp_path / "damaged").mkdir()
        trainer.export_adapter(tmp_path / "adapter")
        trainer.save(tmp_path / "damaged")
        for file in sorted(tmp_path.glob("damaged/**/*")):
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        acts: list[Callable[[], object]] = [
            lambda: trainer.optim_step(ADAM),
            lambda: trainer.load(tmp_path / "empty", optimizer=True),
            lambda: trainer.load(tmp_path / "empty", optimizer=False),
            lambda: trainer.load(tmp_path / "damaged", optimizer=True),
        ]
        for act in acts:
            with pytest.raises(LoopsError):
                act()
            assert trainer.digest() == before

    def test_gradients_with_and_without_normalisation_do_not_mix(self, trainer: Trainer) -> None:
        """Check that the second kind is refused, and what waits stays."""
        loss = trainer.describe().losses[self.loss_fn]
        if "skip_token_normalization" not in {setting.name for setting in loss.settings}:
            pytest.skip("the loss has no setting skip_token_normalization")
        before = trainer.digest()
        with pytest.raises(UsageError):
            trainer.forward_backward(
                datums(ROWS),
                loss_fn=self.loss_fn,
                loss_fn_config={"skip_token_normalization": True},
            )
        assert trainer.digest() == before

    def test_a_saved_state_loads_bit_by_bit(
        self, trainer: Trainer, open_trainer: Callable[..., Trainer], tmp_path: Path
    ) -> None:
        """Check that weights, moments, step and waiting gradients come back, and go on alike."""
        trainer.save(tmp_path)
        before = trainer.digest()
        other = open_trainer(rank=1, seed=1)
        other.load(tmp_path, optimizer=True)
        assert other.digest() == before == trainer.digest()
        assert (other.rank, other.step) == (trainer.rank, trainer.step)
        assert other.optim_step(ADAM) == trainer.optim_step(ADAM)
        assert self.train(other) == self.train(trainer)
        assert other.digest() == trainer.digest()

    def test_weights_load_without_the_optimizer(
        self, trainer: Trainer, open_trainer: Callable[..., Trainer], tmp_path: Path
    ) -> None:
        """Check that the weights are the same and everything else is fresh."""
        trainer.save(tmp_path)
        other = open_trainer(rank=1, seed=1)
        self.backward(other)
        other.load(tmp_path, optimizer=False)
        assert (other.rank, other.step) == (trainer.rank, 0)
        assert self.forward(other) == self.forward(trainer)
        with pytest.raises(UsageError):
            other.optim_step(ADAM)

    def test_an_exported_adapter_loads_back(
        self, trainer: Trainer, open_trainer: Callable[..., Trainer], tmp_path: Path
    ) -> None:
        """Check that an export keeps every bit of the weights, and no optimizer."""
        before = trainer.digest()
        trainer.export_adapter(tmp_path)
        assert trainer.digest() == before
        other = open_trainer(rank=1, seed=1)
        other.load(tmp_path, optimizer=False)
        assert (other.rank, other.step) == (trainer.rank, 0)
        assert self.forward(other) == self.forward(trainer)

    def test_an_adapter_is_no_state(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check that nobody resumes from a directory without an optimizer."""
        trainer.export_adapter(tmp_path)
        with pytest.raises(CheckpointError):
            trainer.load(tmp_path, optimizer=True)


def datums(rows: Sequence[Row]) -> list[Datum]:
    """Return rows as datums."""
    return [row.datum() for row in rows]


def logprobs_of(output: ForwardBackwardOutput) -> list[np.ndarray]:
    """Return the log-probabilities of each datum."""
    return [tensors["logprobs"].to_numpy() for tensors in output.loss_fn_outputs]
