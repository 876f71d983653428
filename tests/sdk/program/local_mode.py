"""Without a control plane: `ServiceClient.local` against the owner's own trainer and sampler."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from urllib.parse import urlsplit

from baseten.loops import ModelInput, SamplingParams, ServiceClient
from baseten.loops.sampling_client import LocalDeployment
from baseten.loops.training_client import TrainingClient
from life import PROMPT, score
from watching import Setup, logprobs_of, make_batch, take_step


def play(setup: Setup) -> dict:
    """Return what training and sampling saw, and what a client that names a run can add."""
    trainer_url = with_key(setup.trainer_url, setup.api_key)
    sampler_url = with_key(setup.sampler_url, setup.api_key)
    service = ServiceClient.local(trainer_url=trainer_url, sampler_url=sampler_url)
    trainer = service.create_lora_training_client(setup.base_model, rank=4)
    seen: dict = {"fresh": score(trainer, PROMPT)}
    sampler = service.create_sampling_client(base_model=setup.base_model)
    seen["computed"] = sampler.compute_logprobs(ModelInput.from_ints(PROMPT))
    seen["logprobs"] = logprobs_of(trainer.forward(make_batch()).result())
    seen["steps"] = [take_step(trainer, make_batch()) for _ in range(3)]
    params = SamplingParams(max_tokens=3, temperature=0.0)
    reply = sampler.sample(ModelInput.from_ints(PROMPT), sampling_params=params)
    seen["reply"] = reply.model_dump(mode="json")
    trainer.close()
    named = TrainingClient(
        trainer_url,
        base_model=setup.base_model,
        lora_rank=4,
        run_id="anything",
        paired_sampling_deployment=LocalDeployment(sampler_url),
    )
    take_step(named, make_batch())
    live = named.save_weights_and_get_sampling_client("live")
    seen["published"] = score(named, PROMPT)
    seen["published_computed"] = live.compute_logprobs(ModelInput.from_ints(PROMPT))
    for each in (sampler, live, named):
        each.close()
    return seen


def with_key(url: str, key: str) -> str:
    """Return the URL with the key in it: a local client of the SDK has no other place for one."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"key:{key}@{parts.netloc}").geturl()
