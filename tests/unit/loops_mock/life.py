"""A mock's life with every loss, a step after each, and samples; prints a digest of all it gave.

Run by itself in any interpreter that has loops_core and loops_mock: the line is the same in all.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from loops_core.protocols import BackendConfig, SampleRequest, SamplerSpec, TrainerSpec
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams
from loops_mock.backend import MockBackend
from loops_mock.config import ModelConfig
from loops_mock.exact import draw_uniform
from loops_mock.losses import EXACT_LOSSES
from loops_mock.sampler import MockSampler
from loops_mock.trainer import MockTrainer

ADAM = AdamParams(learning_rate=0.01, weight_decay=0.01, grad_clip_norm=0.5)


def make_data(name: str) -> list[Datum]:
    """Return two datums with whatever a loss may read, of 9 and 40 positions."""
    data: list[Datum] = []
    for length in (9, 40):
        tokens = (256 * draw_uniform(f"{name}/tokens/{length}", length + 1)).astype(np.int64)
        numbers = {
            "logprobs": draw_uniform(f"{name}/logprobs/{length}", length) * 2 - 6.5,
            "ref_logprobs": draw_uniform(f"{name}/ref/{length}", length) * 2 - 6.5,
            "advantages": np.rint(draw_uniform(f"{name}/advantages/{length}", length) * 4 - 2),
            "weights": draw_uniform(f"{name}/weights/{length}", length) - 0.25,
        }
        inputs = {key: TensorData.from_numpy(value) for key, value in numbers.items()}
        inputs["target_tokens"] = TensorData.from_numpy(tokens[1:])
        data.append(
            Datum(model_input=ModelInput.from_ints(tokens[:-1].tolist()), loss_fn_inputs=inputs)
        )
    return data


def run_losses(trainer: MockTrainer) -> list[str]:
    """Train with each loss in turn; return what was seen, to the last bit."""
    seen: list[str] = []
    for name in EXACT_LOSSES:
        output = trainer.forward_backward(
            make_data(name), loss_fn=name, loss_fn_config={}, top_k_logprobs=5
        )
        seen.append(output.model_dump_json())
        seen += [trainer.digest(), repr(trainer.optim_step(ADAM)), trainer.digest()]
    return seen


def run_samples(sampler: MockSampler, trainer: MockTrainer, room: Path) -> list[str]:
    """Sample with the trained adapter in several manners; return what was drawn."""
    trainer.export_adapter(room)
    sampler.load_adapter("trained", room)
    for settings in ({}, {"temperature": 0.0}, {"temperature": 0.6, "top_k": 9, "top_p": 0.8}):
        sampler.submit(
            SampleRequest(
                prompt=(1, 2, 3),
                adapter_id="trained",
                seed=7,
                num_samples=3,
                max_tokens=12,
                top_k_prompt_logprobs=4,
                **settings,  # pyright: ignore[reportArgumentType]  # numbers of either kind
            )
        )
    seen: list[str] = []
    while len(seen) < 3:
        seen += [repr(outcome) for outcome in sampler.step()]
    return sorted(seen)


def live() -> str:
    """Return the digest of a whole life."""
    with tempfile.TemporaryDirectory() as name:
        room, model_dir = Path(name, "adapter"), Path(name, "model")
        room.mkdir()
        model_dir.mkdir()
        config = ModelConfig(name="mock-life")
        (model_dir / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
        backend = MockBackend(BackendConfig())
        trainer = backend.open_trainer(TrainerSpec(base_model="mock-life", model_dir=model_dir))
        sampler = backend.open_sampler(SamplerSpec(base_model="mock-life", model_dir=model_dir))
        trainer.init(rank=4, seed=3)
        seen = run_losses(trainer) + run_samples(sampler, trainer, room)
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(live() + "\n")
