"""The parts of a training loop that the tests of the watch put together, rightly and wrongly."""

from __future__ import annotations

from loops_core import (
    AdamParams,
    Datum,
    ModelInput,
    SampleResponse,
    SamplingClient,
    SamplingParams,
    TensorData,
    TrainingClient,
)

URL = "inproc:mock?data_dir=:memory:"
PROMPT = [1, 2, 3]
ADAM = AdamParams(learning_rate=1e-2)


def datum(tokens: list[int]) -> Datum:
    """Return an example of one sequence, each token of which predicts the next."""
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": TensorData.from_list(tokens[1:], "int64")},
    )


def train(trainer: TrainingClient, *batches: list[Datum]) -> None:
    """Apply one optimizer step with the gradients of all batches."""
    passes = [trainer.forward_backward(batch) for batch in batches]
    step = trainer.optim_step(ADAM)
    for one in passes:
        one.result()
    step.result()


def publish(trainer: TrainingClient) -> SamplingClient:
    return trainer.save_weights_and_get_sampling_client().result()


def draw(sampler: SamplingClient, seed: int = 0) -> SampleResponse:
    params = SamplingParams(max_tokens=6, seed=seed)
    return sampler.sample(ModelInput.from_ints(PROMPT), num_samples=2, sampling_params=params)


def batch_of(answer: SampleResponse) -> list[Datum]:
    return [datum([*PROMPT, *sequence.tokens]) for sequence in answer.sequences]
