"""Log-probabilities, losses, gradients and steps equal those of PyTorch and transformers.

Everything runs as a user's calls do: the adapter is read from a PEFT directory by a trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from tests.numerics.cases import GoldenCase

from loops_backend_jax.lora.adapter import LINEAR_TARGETS, Factors, adapter_sites
from loops_backend_jax.lora.tree import get_array
from loops_backend_jax.losses import make_losses
from loops_backend_jax.trainer import JaxTrainer
from loops_core.protocols import TrainerSpec
from loops_core.types.training import AdamParams, ForwardBackwardOutput

pytestmark = pytest.mark.slow  # each model compiles its own passes

ADAM = AdamParams(
    learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-12, weight_decay=0.01, grad_clip_norm=1.0
)
STEPS = 3
# Two libraries order float32 sums differently: a logit of size 10 over 30 layers moves by 1e-5 to
# 5e-5 (seen), gradients by about 1e-5 of their norm; these bounds leave a factor of four to ten.
LOGPROB_ATOL, LOGPROB_AFTER_ATOL, LOSS_RTOL, GRADIENT_RTOL = 2e-4, 1e-3, 1e-5, 1e-4


@dataclass(frozen=True)
class Replay:
    """What a trainer did on a golden case.

    Attributes:
        base: output of the fresh adapter.
        gradients: after the first `forward_backward`.
        outputs: of the `forward_backward` before each step.
        metrics: of each step.
        after: output after the last step.
    """

    base: ForwardBackwardOutput
    gradients: Factors
    outputs: list[ForwardBackwardOutput]
    metrics: list[dict[str, float]]
    after: ForwardBackwardOutput


@pytest.fixture(scope="module")
def replay(golden: GoldenCase) -> Replay:
    spec = TrainerSpec(base_model="golden", model_dir=golden.model_dir)
    trainer = JaxTrainer(golden.base, spec, make_losses())
    trainer.init(rank=8, seed=0)
    base = forward(trainer, golden)
    trainer.load(golden.adapter_dir, optimizer=False)
    outputs: list[ForwardBackwardOutput] = []
    metrics: list[dict[str, float]] = []
    gradients: Factors = {}
    for _ in range(STEPS):
        outputs.append(
            trainer.forward_backward(golden.data, loss_fn="cross_entropy", loss_fn_config={})
        )
        if not gradients:
            gradients = pending_gradients(trainer)
        metrics.append(trainer.optim_step(ADAM))
    return Replay(base, gradients, outputs, metrics, forward(trainer, golden))


def pending_gradients(trainer: JaxTrainer) -> Factors:
    state = trainer._state  # pyright: ignore[reportPrivateUsage]  # they show nowhere else
    assert state is not None
    assert state.gradients is not None
    return state.gradients


def forward(trainer: JaxTrainer, golden: GoldenCase) -> ForwardBackwardOutput:
    return trainer.forward(golden.data, loss_fn="cross_entropy", loss_fn_config={})


def assert_logprobs(
    output: ForwardBackwardOutput, golden: GoldenCase, name: str, *, atol: float
) -> None:
    for i, found in enumerate(output.loss_fn_outputs):
        active = golden.arrays[f"row{i}_targets"] != -100
        logprobs = found["logprobs"].to_numpy()
        assert np.isnan(logprobs[~active]).all()
        expected = golden.arrays[f"row{i}_{name}_logprobs"][active]
        np.testing.assert_allclose(logprobs[active], expected, rtol=0, atol=atol)


def by_module(tree: Factors, golden: GoldenCase) -> dict[str, Sequence[np.ndarray]]:
    """Return (lora_A [rank, in], lora_B [out, rank]) of every module by name."""
    found: dict[str, Sequence[np.ndarray]] = {}
    for site in adapter_sites(golden.base.config, LINEAR_TARGETS):
        pair = [np.asarray(get_array(tree, (*site.path, side))) for side in ("lora_a", "lora_b")]
        for layer, name in enumerate(site.module_names()):
            found[name] = [side[layer].T for side in pair]
    return found


def test_base_logprobs_are_those_of_the_reference(golden: GoldenCase, replay: Replay) -> None:
    assert_logprobs(replay.base, golden, "base", atol=LOGPROB_ATOL)


def test_adapted_logprobs_are_those_of_the_reference(golden: GoldenCase, replay: Replay) -> None:
    assert_logprobs(replay.outputs[0], golden, "lora", atol=LOGPROB_ATOL)


def test_logprobs_after_three_steps_are_those_of_the_reference(
    golden: GoldenCase, replay: Replay
) -> None:
    assert_logprobs(replay.after, golden, "after", atol=LOGPROB_AFTER_ATOL)


def test_loss_sums_are_those_of_the_reference(golden: GoldenCase, replay: Replay) -> None:
    sums = [output.metrics["loss:sum"] for output in replay.outputs]
    np.testing.assert_allclose(sums, golden.arrays["loss_sums"], rtol=LOSS_RTOL)


def test_norms_of_summed_gradients_are_those_of_the_reference(
    golden: GoldenCase, replay: Replay
) -> None:
    found = by_module(replay.gradients, golden)
    names = [str(name) for name in golden.arrays["module_names"]]
    assert sorted(found) == names
    norms = [[np.linalg.norm(side) for side in found[name]] for name in names]
    np.testing.assert_allclose(norms, golden.arrays["grad_sum_norms"], rtol=GRADIENT_RTOL)


def test_summed_gradients_are_those_of_the_reference(golden: GoldenCase, replay: Replay) -> None:
    found = by_module(replay.gradients, golden)
    stored = [name.split("/")[1:] for name in golden.arrays if name.startswith("grad_sum/")]
    assert len(stored) == 12
    for module, side in stored:
        expected = golden.arrays[f"grad_sum/{module}/{side}"]
        ours = found[module][("lora_A", "lora_B").index(side)]
        assert np.linalg.norm(ours - expected) <= GRADIENT_RTOL * np.linalg.norm(expected)
        # Small elements are sums of large terms: the largest element sets the scale of their error.
        bound = GRADIENT_RTOL * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=GRADIENT_RTOL, atol=bound)


def test_global_gradient_norms_are_those_of_the_reference(
    golden: GoldenCase, replay: Replay
) -> None:
    norms = [metrics["grad_norm"] for metrics in replay.metrics]
    np.testing.assert_allclose(norms, golden.arrays["grad_norms"], rtol=GRADIENT_RTOL)
    counts = {metrics["active_tokens"] for metrics in replay.metrics}
    assert counts == {float(golden.arrays["active"])}
