"""A step of reinforcement learning as it is written for this SDK: asynchronous, many at once."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio

from baseten.loops import (
    Datum,
    ModelInput,
    SampledSequence,
    SamplingParams,
    ServiceClient,
    TensorData,
)
from life import PROMPT
from watching import ADAM, Setup, int_tensor, logprobs_of, make_datum

NUM_ROLLOUTS = 12


def play(setup: Setup) -> dict:
    """Return what the event loop saw."""
    service = ServiceClient(
        base_url=setup.url, api_key=setup.api_key, team=setup.team, reuse_from_run_id="long-gone"
    )
    return asyncio.run(_play(service, setup.base_model))


async def _play(service: ServiceClient, base_model: str) -> dict:
    trainer = await service.create_lora_training_client_async(
        base_model, rank=4, seed=7, with_sampler=True
    )
    futures = [await trainer.forward_backward_async([make_datum([5, 6, 7, 8])])]
    futures.append(await trainer.optim_step_async(ADAM))
    await asyncio.gather(*futures)
    sampler = await trainer.save_weights_and_get_sampling_client_async("rollouts")
    prompt = ModelInput.from_ints(PROMPT)
    replies = await asyncio.gather(
        *(
            sampler.sample_async(
                prompt,
                sampling_params=SamplingParams(max_tokens=6, seed=number),
                affinity_key=f"group-{number % 3}",
            )
            for number in range(NUM_ROLLOUTS)
        )
    )
    sequences = [reply.sequences[0] for reply in replies]
    data = [rollout(sequence, (-1.0) ** number) for number, sequence in enumerate(sequences)]
    seen: dict = {
        "versions": [reply.policy_version for reply in replies],
        "sampled": [sequence.logprobs for sequence in sequences],
        "different": len({tuple(sequence.tokens) for sequence in sequences}),
    }
    scored = await (await trainer.forward_async([without_rewards(datum) for datum in data]))
    seen["scored"] = [row[len(PROMPT) - 1 :] for row in logprobs_of(scored)]
    try:
        output = await (await trainer.forward_backward_async(data, "importance_sampling"))
        stepped = await (await trainer.optim_step_async(ADAM))
        top = await (await trainer.forward_async(data[:1], "importance_sampling", None, 3))
        seen["rewarded"] = {
            "metrics": output.metrics,
            "step": stepped.metrics,
            "top_k": {key: each.shape for key, each in top.loss_fn_outputs[0].items()},
        }
    except Exception as error:  # noqa: BLE001  # a backend without the loss says so
        seen["rewarded"] = {"error": str(error)}
    await sampler.aclose()
    await trainer.aclose()
    return seen


def rollout(sequence: SampledSequence, advantage: float) -> Datum:
    """Return prompt and answer as one datum, whose prompt has no advantage."""
    tokens = [*PROMPT, *sequence.tokens]
    ignored = len(PROMPT) - 1
    floats = {
        "logprobs": [0.0] * ignored + list(sequence.logprobs or []),
        "advantages": [0.0] * ignored + [advantage] * len(sequence.tokens),
    }
    tensors = {
        name: TensorData(data=values, dtype="float32", shape=[len(values)])
        for name, values in floats.items()
    }
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": int_tensor(tokens[1:]), **tensors},
    )


def without_rewards(datum: Datum) -> Datum:
    """Return the datum with its targets alone."""
    targets = datum.loss_fn_inputs["target_tokens"]
    return datum.model_copy(update={"loss_fn_inputs": {"target_tokens": targets}})
