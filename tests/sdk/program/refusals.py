"""Mistaken requests: what each raises and how soon, and that the client works afterwards."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import time
from collections.abc import Callable

from baseten.loops import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient, TensorData
from baseten.loops.sampling_client import SamplingClient
from baseten.loops.training_client import TrainingClient
from watching import ADAM, Setup, int_tensor, make_batch, make_datum, take_step

NOWHERE = "bt://loops:nowhere/weights/none"
NOWHERE_SAMPLER = "bt://loops:nowhere/sampler_weights/none"
Case = Callable[[], object]
RETRY_BUDGET_S = 12.0
"""How long the SDK repeats what it takes for "not ready"; an hour where it is not told."""

MOST_SLOW = 2
"""After so many requests that were repeated the rest is not tried: enough is known."""


def play(setup: Setup) -> dict:
    """Return what every mistaken request raised, and what the right ones after them told."""
    service = ServiceClient(base_url=setup.url, api_key=setup.api_key)
    trainer = service.create_lora_training_client(
        setup.base_model, rank=4, seed=7, ready_timeout=RETRY_BUDGET_S
    )
    sampler = trainer.save_weights_and_get_sampling_client("first")
    seen: dict = {"refused": {}, "before": take_step(trainer, make_batch())}
    cases = {
        **of_service(service, setup),
        **of_passes(trainer),
        **of_saves_and_loads(service, trainer),
        **of_samples(sampler),
    }
    num_slow = 0
    for name, call in cases.items():
        told = seen["refused"][name] = outcome(call)
        num_slow += told["seconds"] > RETRY_BUDGET_S
        if num_slow == MOST_SLOW:
            return seen
    seen["after"] = take_step(trainer, make_batch())
    seen["saved_again"] = save_again(trainer)
    reply = sampler.sample(ModelInput.from_ints([5]), sampling_params=SamplingParams(max_tokens=2))
    seen["sampled"] = len(reply.sequences[0].tokens)
    sampler.close()
    trainer.close()
    return seen


def outcome(call: Case) -> dict:
    """Return what a call raised, with its status, its text and its seconds."""
    started = time.monotonic()
    try:
        call()
    except Exception as error:  # noqa: BLE001  # what is raised is what is asked for
        response = getattr(error, "response", None)
        return {
            "error": type(error).__name__,
            "status": None if response is None else response.status_code,
            "text": str(error),
            "seconds": time.monotonic() - started,
        }
    return {"error": None, "seconds": time.monotonic() - started}


def save_again(trainer: TrainingClient) -> dict:
    """Save one name twice; the name then means the second."""
    trainer.save_state("again").result()
    (first,) = [row.id for row in trainer.list_checkpoints() if row.checkpoint_id == "again"]
    trainer.save_state("again").result()
    (second,) = [row.id for row in trainer.list_checkpoints() if row.checkpoint_id == "again"]
    return {"first": first, "second": second}


def of_service(service: ServiceClient, setup: Setup) -> dict[str, Case]:
    """Return mistakes at the control plane."""
    create = service.create_lora_training_client
    return {
        "wrong_key": lambda: ServiceClient(base_url=setup.url, api_key="wrong"),
        "no_such_model": lambda: create("no-such-model"),
        "rank_0": lambda: create(setup.base_model, rank=0),
        "trainer_from_nowhere": lambda: service.create_training_client_from_state(NOWHERE),
        "sampler_from_nowhere": lambda: service.create_sampling_client(model_path=NOWHERE_SAMPLER),
        "files_of_nothing": lambda: service.get_checkpoint_archive_url("nothing"),
        "checkpoints_of_nobody": lambda: service.list_checkpoints("nobody"),
        "no_such_team": lambda: ServiceClient(
            base_url=setup.url, api_key=setup.api_key, team="no-such-team"
        ),
    }


def of_passes(trainer: TrainingClient) -> dict[str, Case]:
    """Return mistakes of forward_backward and optim_step."""
    datum = make_datum([5, 6, 7, 8])

    def passes(*data: Datum, loss_fn: str = "cross_entropy", config: dict | None = None) -> Case:
        return lambda: trainer.forward_backward(list(data), loss_fn, config).result()

    def given(**inputs: TensorData) -> Datum:
        return datum.model_copy(update={"loss_fn_inputs": {**datum.loss_fn_inputs, **inputs}})

    return {
        "bad_token": passes(make_datum([5, 10**9, 7])),
        "negative_token": passes(make_datum([5, -7, 7])),
        "bad_target": passes(given(target_tokens=int_tensor([5, 6, 10**9]))),
        "unknown_loss": passes(datum, loss_fn="no_such_loss"),
        "unknown_config": passes(datum, config={"no_such_setting": 1}),
        "other_shape": passes(given(target_tokens=int_tensor([5, 6]))),
        "false_shape": passes(
            given(target_tokens=TensorData(data=[5, 6, 7], dtype="int64", shape=[4]))
        ),
        "unknown_dtype": passes(
            given(target_tokens=TensorData(data=[5, 6, 7], dtype="int63", shape=[3]))
        ),
        "no_data": passes(),
        "no_tokens": passes(Datum(model_input=ModelInput.empty())),
        "no_gradients": lambda: trainer.optim_step(ADAM).result(),
        "nan_rate": lambda: trainer.optim_step(AdamParams(learning_rate=float("nan"))).result(),
        "negative_rate": lambda: trainer.optim_step(AdamParams(learning_rate=-1.0)).result(),
    }


def of_saves_and_loads(service: ServiceClient, trainer: TrainingClient) -> dict[str, Case]:
    """Return mistakes of checkpoint names and paths."""
    names = {
        "name_with_slash": "a/b",
        "name_above": "../evil",
        "no_name": "",
        "long_name": "a" * 200,
    }
    cases: dict[str, Case] = {
        name: lambda text=text: trainer.save_state(text).result() for name, text in names.items()
    }
    return {
        **cases,
        "publish_above": lambda: trainer.save_weights_for_sampler("../evil").result(),
        "load_nowhere": lambda: trainer.load_state(NOWHERE).result(),
        "resume_nowhere": lambda: trainer.load_state_with_optimizer(NOWHERE).result(),
        "load_local": lambda: trainer.load_state("/etc").result(),
        "load_nonsense": lambda: trainer.load_state("bt://nonsense").result(),
        "sample_nowhere": lambda: trainer.create_sampling_client(NOWHERE_SAMPLER),
        "file_of_nothing": lambda: trainer.download_checkpoint(name="nothing", dest_dir="unused"),
    }


def of_samples(sampler: SamplingClient) -> dict[str, Case]:
    """Return mistakes of sampling."""
    prompt = ModelInput.from_ints([5, 6])

    def samples(num: int = 1, tokens: ModelInput = prompt, **params: object) -> Case:
        given = SamplingParams(**{"max_tokens": 2, **params})
        return lambda: sampler.sample(tokens, num, given)

    return {
        "negative_temperature": samples(temperature=-1.0),
        "top_p_2": samples(top_p=2.0),
        "no_samples": samples(0),
        "no_max_tokens": samples(max_tokens=0),
        "bad_prompt": samples(tokens=ModelInput.from_ints([5, 10**9])),
        "no_prompt": samples(tokens=ModelInput.empty()),
        "top_k_prompt_logprobs": lambda: sampler.sample(
            prompt, 1, SamplingParams(max_tokens=1), True, 10**6
        ),
    }
