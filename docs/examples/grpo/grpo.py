"""GRPO in small: sample a group for each prompt, compare its members, reinforce the better ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from loops_core import (
    AdamParams,
    Datum,
    ModelInput,
    SampledSequence,
    SamplingParams,
    ServiceClient,
    TensorData,
)

Reward = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Settings:
    """What a run is like."""

    base_model: str = "loops-tiny"
    steps: int = 10
    group_size: int = 8
    max_tokens: int = 8
    learning_rate: float = 0.1
    seed: int = 0


def share_of_even_tokens(tokens: Sequence[int]) -> float:
    """Return the reward of a completion; any function of its tokens will do."""
    return sum(token % 2 == 0 for token in tokens) / max(1, len(tokens))


def grpo(
    settings: Settings, prompts: Sequence[Sequence[int]], reward: Reward = share_of_even_tokens
) -> list[float]:
    """Train a fresh adapter, and return the mean reward of each step."""
    mean_rewards = []
    adam = AdamParams(learning_rate=settings.learning_rate)
    with ServiceClient() as service:
        trainer = service.create_lora_training_client(
            settings.base_model, rank=8, seed=settings.seed
        )
        for step in range(settings.steps):
            sampler = trainer.save_weights_and_get_sampling_client(f"step-{step}").result()
            params = SamplingParams(max_tokens=settings.max_tokens, seed=settings.seed + step)
            data, rewards = [], []
            for prompt in prompts:
                answer = sampler.sample(
                    ModelInput.from_ints(prompt),
                    num_samples=settings.group_size,
                    sampling_params=params,
                )
                group = [reward(sequence.tokens) for sequence in answer.sequences]
                rewards += group
                for sequence, advantage in zip(answer.sequences, advantages(group), strict=True):
                    data.append(make_datum(prompt, sequence, advantage))
            passed = trainer.forward_backward(data, "importance_sampling")
            stepped = trainer.optim_step(adam)
            passed.result()
            stepped.result()
            mean_rewards.append(fmean(rewards))
    return mean_rewards


def advantages(rewards: Sequence[float]) -> list[float]:
    """Return how much better each member of a group is than the group, in standard deviations."""
    mean, spread = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / (spread + 1e-6) for reward in rewards]


def make_datum(prompt: Sequence[int], sequence: SampledSequence, advantage: float) -> Datum:
    """Return a completion as an example: position i predicts the token at i + 1."""
    tokens = [*prompt, *sequence.tokens]
    ahead = len(prompt) - 1
    logprobs = [0.0] * ahead + list(sequence.logprobs or [])
    weighted = [0.0] * ahead + [advantage] * len(sequence.tokens)
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": TensorData.from_list(tokens[1:], "int64"),
            "logprobs": TensorData.from_list(logprobs[: len(tokens) - 1]),
            "advantages": TensorData.from_list(weighted[: len(tokens) - 1]),
        },
    )
