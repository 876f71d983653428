"""What the quickstart is asked to do, with defaults that fit the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loops_core.errors import UsageError

DEFAULT_MODEL: Final = "loops-tiny"
WARMUP_SHARE: Final = 0.05
FINAL_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """How a model is trained unless the user says otherwise.

    Attributes:
        steps: optimizer steps.
        batch_size: examples a step.
        learning_rate: the highest of the schedule.
        rank: the adapter's rank.
    """

    steps: int
    batch_size: int
    learning_rate: float
    rank: int


DEFAULTS: Final[Mapping[str, ModelDefaults]] = {
    # a random base has everything to learn: after 100 steps hardly an answer is right
    "loops-tiny": ModelDefaults(steps=300, batch_size=16, learning_rate=5e-3, rank=16),
    # takes the style over in 20 steps; at 5e-4 the loss after 40 is higher (0.59) than here (0.46)
    "smollm2": ModelDefaults(steps=30, batch_size=8, learning_rate=1e-3, rank=16),
}
OTHER_DEFAULTS: Final = ModelDefaults(steps=40, batch_size=8, learning_rate=5e-4, rank=16)
"""For models that are not known: slower, since larger ones take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartSettings:
    """One run of the main job.

    Attributes:
        base_model: a name or a directory.
        base_url: which service; None = LOOPS_BASE_URL, else the embedded default.
        steps: optimizer steps of the training, at least 1.
        resume_steps: further steps, run twice to prove that a checkpoint resumes.
        rank: the adapter's rank.
        learning_rate: the highest of the schedule.
        batch_size: examples a step.
        seed: of the adapter and of the order of the examples.
        output: where files are written.
        data: the examples; None = the shipped ones.
        prompts: what to ask before and after; empty = some of the examples and one that is not.
        wandb_project: where Weights & Biases keeps the metrics; None = it is not used.
    """

    base_model: str
    base_url: str | None
    steps: int
    resume_steps: int
    rank: int
    learning_rate: float
    batch_size: int
    seed: int
    output: Path
    data: Path | None
    prompts: tuple[str, ...]
    wandb_project: str | None


def make_settings(
    *,
    base_model: str = DEFAULT_MODEL,
    base_url: str | None = None,
    steps: int | None = None,
    resume_steps: int = 3,
    rank: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    output: Path = Path("loops-quickstart"),
    data: Path | None = None,
    prompts: tuple[str, ...] = (),
    wandb_project: str | None = None,
) -> QuickstartSettings:
    """Return complete settings: what is None takes the model's default.

    Raises:
        UsageError: a count below 1, or a learning rate that is not a positive number.
    """
    usual = DEFAULTS.get(base_model, OTHER_DEFAULTS)
    settings = QuickstartSettings(
        base_model=base_model,
        base_url=base_url,
        steps=usual.steps if steps is None else steps,
        resume_steps=resume_steps,
        rank=usual.rank if rank is None else rank,
        learning_rate=usual.learning_rate if learning_rate is None else learning_rate,
        batch_size=usual.batch_size if batch_size is None else batch_size,
        seed=seed,
        output=output,
        data=data,
        prompts=prompts,
        wandb_project=wandb_project,
    )
    for name in ("steps", "resume_steps", "rank", "batch_size"):
        value: int = getattr(settings, name)
        if value < 1:
            raise UsageError(f"{name} is {value}; expected at least 1", field=name)
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise UsageError(
            f"learning_rate is {settings.learning_rate}; expected a positive number",
            field="learning_rate",
        )
    return settings


def learning_rate_at(step: int, settings: QuickstartSettings) -> float:
    """Return the learning rate of a step, counted from 0: a short rise, then half a cosine.

    It ends at a tenth of the highest, and steps beyond the last stay there.
    """
    rise = max(1, round(settings.steps * WARMUP_SHARE))
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    progress = min(1.0, (step - rise) / max(1, settings.steps - rise))
    share = FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * progress)) / 2
    return settings.learning_rate * share
