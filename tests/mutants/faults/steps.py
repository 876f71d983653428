"""Faults of optimizer steps: what Adam does, what a step clears, what it reports."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit, Value
from tests.mutants.mutant import Mutant

_ADAM: Final = "loops_mock.state:apply_adam"
_FACTOR: Final = "loops_mock.state:_step"

STEPS: Final = (
    Mutant(
        "steps.gradients-kept",
        "old batches are trained again and again: a step does not clear the gradients",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "TrainerState(adapter=adapter, first=first, second=second, step=step)",
                "TrainerState("
                "adapter=adapter, first=first, second=second, step=step, pending=pending)",
            ),
        ),
    ),
    Mutant(
        "steps.no-bias-correction",
        "the first steps are far too small",
        "mock-backend",
        (
            Edit(_FACTOR, "m / (1.0 - power(params.beta1, step))", "m"),
            Edit(_FACTOR, "v / (1.0 - power(params.beta2, step))", "v"),
        ),
    ),
    Mutant(
        "steps.step-counted-from-zero",
        "the second step is corrected as if it were the first",
        "mock-backend",
        (Edit(_ADAM, "step = state.step + 1", "step = max(state.step, 1)"),),
    ),
    Mutant(
        "steps.coupled-decay",
        "weight decay hardly does anything: it goes through the moments",
        "mock-backend",
        (
            Edit(
                _FACTOR,
                "m_hat / (np.sqrt(v_hat) + params.eps) + params.weight_decay * old",
                "m_hat / (np.sqrt(v_hat) + params.eps)",
            ),
        ),
    ),
    Mutant(
        "steps.decay-not-scaled",
        "weight decay acts at learning rate 0: it is not multiplied by the learning rate",
        "mock-backend",
        (
            Edit(
                _FACTOR,
                "m_hat / (np.sqrt(v_hat) + params.eps) + params.weight_decay * old",
                "m_hat / (np.sqrt(v_hat) + params.eps)",
            ),
            Edit(
                _FACTOR,
                "old - params.learning_rate * update",
                "old - params.learning_rate * update - params.weight_decay * old",
            ),
        ),
    ),
    Mutant(
        "steps.clip-ignored",
        "one bad batch ruins the run: grad_clip_norm does nothing",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "params.grad_clip_norm > 0 and norm > params.grad_clip_norm",
                "False",
            ),
        ),
    ),
    Mutant(
        "steps.clip-zero-freezes",
        "grad_clip_norm=0, which means off, stops all learning",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "params.grad_clip_norm > 0 and norm > params.grad_clip_norm",
                "norm > params.grad_clip_norm",
            ),
        ),
    ),
    Mutant(
        "steps.norm-after-clipping",
        "grad_norm never shows a spike: it is reported after clipping",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "gradient = gradient * (params.grad_clip_norm / norm)",
                "gradient = gradient * (params.grad_clip_norm / norm)\n"
                "norm = params.grad_clip_norm",
            ),
        ),
    ),
    Mutant(
        "steps.not-normalised",
        "the step depends on the batch size: sums are not divided by the active tokens",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "1 if pending.skip_normalization else max(pending.active, 1)",
                "1",
            ),
        ),
    ),
    Mutant(
        "steps.skip-ignored",
        "custom losses train too slowly: their sums are divided all the same",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "1 if pending.skip_normalization else max(pending.active, 1)",
                "max(pending.active, 1)",
            ),
        ),
    ),
    Mutant(
        "steps.empty-step-counts",
        "optim_step without gradients is taken for a step",
        "mock-backend",
        (
            Edit(
                "loops_mock.trainer:MockTrainer.optim_step",
                "self._state, metrics = apply_adam(self._need_state(), adam_params)",
                "state = self._need_state()\n"
                "if state.pending is None:\n"
                "    self._state = replace(state, step=state.step + 1)\n"
                "    return {'step': float(state.step + 1), 'grad_norm': 0.0,"
                " 'learning_rate': adam_params.learning_rate, 'active_tokens': 0.0}\n"
                "self._state, metrics = apply_adam(state, adam_params)",
            ),
        ),
    ),
    Mutant(
        "steps.betas-swapped",
        "training is unstable: beta1 and beta2 are exchanged",
        "mock-backend",
        (
            Edit(
                _FACTOR,
                "params.beta1 * first.astype(np.float64) + (1.0 - params.beta1) * gradient",
                "params.beta2 * first.astype(np.float64) + (1.0 - params.beta2) * gradient",
            ),
            Edit(_FACTOR, "power(params.beta1, step)", "power(params.beta2, step)"),
        ),
    ),
    Mutant(
        "steps.moments-forgotten",
        "momentum has no effect: each step starts with empty moments",
        "mock-backend",
        (
            Edit(_FACTOR, "params.beta1 * first.astype(np.float64)", "0.0"),
            Edit(_FACTOR, "params.beta2 * second.astype(np.float64)", "0.0"),
        ),
    ),
    Mutant(
        "steps.eps-ignored",
        "a large eps does not tame the step",
        "mock-backend",
        (Edit(_FACTOR, "np.sqrt(v_hat) + params.eps", "np.sqrt(v_hat) + 1e-12"),),
    ),
    Mutant(
        "steps.first-learning-rate-kept",
        "a schedule has no effect: the first learning rate is used for good",
        "worker",
        (
            Edit(
                "loops_core.worker.machine:TrainerMachine.apply",
                "self._trainer.optim_step(body.adam_params)",
                "self._trainer.optim_step(body.adam_params.model_copy(update={'learning_rate': "
                "TrainerMachine.__dict__.get('rate') or setattr(TrainerMachine, 'rate', "
                "body.adam_params.learning_rate) or body.adam_params.learning_rate}))",
            ),
        ),
    ),
    Mutant(
        "steps.alpha-zero",
        "the loss never falls: the adapter's scale is 0",
        "mock-backend",
        (Value("loops_mock.trainer:ALPHA", lambda _: 0.0),),
    ),
    Mutant(
        "steps.scale-without-rank",
        "a larger rank makes the adapter louder: its scale is alpha, not alpha / rank",
        "mock-backend",
        (Edit("loops_mock.model:Adapter.scale", "self.alpha / self.rank", "self.alpha"),),
    ),
    Mutant(
        "steps.one-place-trained",
        "half of the adapter never moves",
        "mock-backend",
        (
            Edit(
                "loops_mock.model:Adapter.backward",
                "self.scale * gradient[site]",
                "(0.0 if site == MIXER else self.scale) * gradient[site]",
            ),
        ),
    ),
    Mutant(
        "steps.metrics-stale",
        "metrics report the learning rate of a default",
        "mock-backend",
        (
            Edit(
                _ADAM,
                "{'grad_norm': norm, 'learning_rate': params.learning_rate, "
                "'step': float(step), 'active_tokens': float(pending.active)}",
                "{'grad_norm': norm, 'learning_rate': 0.0001, "
                "'step': float(step), 'active_tokens': float(pending.active)}",
            ),
        ),
    ),
)
"""The faults of optimizer steps."""
