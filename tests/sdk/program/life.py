"""A whole life: train, save, publish, sample, download, resume, a loss of one's own."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import random
from pathlib import Path

import torch
from baseten.loops import Datum, ModelInput, SamplingParams, ServiceClient, TensorData
from baseten.loops.training_client import TrainingClient
from watching import ADAM, Setup, int_tensor, logprobs_of, make_batch, make_datum, take_step

PROMPT = [5, 9, 4, 11, 7, 6]
NUM_STEPS = 6
# One call of more than 24 MiB of JSON from few positions: sparse targets, as for distillation.
NUM_WIDE, WIDE_POSITIONS, NUM_TARGETS = 84, 120, 128


def play(setup: Setup) -> dict:
    """Return what each part of the life saw."""
    seen: dict = {}
    service = ServiceClient(base_url=setup.url, api_key=setup.api_key)
    capabilities = service.get_server_capabilities()
    seen["models"] = [model.model_name for model in capabilities.supported_models]
    trainer = service.create_lora_training_client(setup.base_model, rank=4, seed=7, name="sdk")
    seen["run_id"], seen["session_id"] = trainer.run_id, service.session_id
    fresh = score(trainer, PROMPT)
    seen["train"] = train(trainer)
    seen["resume"], path = resume(service, trainer)
    seen["publish"] = publish(service, trainer, setup.base_model, fresh)
    seen["files"] = read_files(service, trainer, Path(setup.folder))
    seen["custom"] = custom_loss(trainer, path)
    seen["chunked"] = chunked(trainer, path)
    trainer.close()
    return seen


def score(trainer: TrainingClient, tokens: list[int]) -> list[float | None]:
    """Return the trainer's log-probabilities of tokens, None for the first."""
    output = trainer.forward([make_datum(tokens)]).result()
    return [None, *logprobs_of(output)[0]]


def train(trainer: TrainingClient) -> dict:
    """Look, then take steps, all of them submitted before the first result is read."""
    batch = make_batch()
    trainer.health()
    before = trainer.forward(batch).result()
    pending = [
        (trainer.forward_backward(batch), trainer.optim_step(ADAM)) for _ in range(NUM_STEPS)
    ]
    return {
        "policy_version": trainer.policy_version,
        "lora_rank": trainer.get_info().lora_rank,
        "tokens": [datum.model_input.to_ints() for datum in batch],
        "targets": [datum.loss_fn_inputs["target_tokens"].tolist() for datum in batch],
        "logprobs": logprobs_of(before),
        "loss": before.loss,
        "losses": [passed.result().loss for passed, _ in pending],
        "steps": [stepped.result().metrics for _, stepped in pending],
    }


def resume(service: ServiceClient, trainer: TrainingClient) -> tuple[dict, str]:
    """Save, go on, and go on again from the save in every way that there is."""
    batch = make_batch()
    saved = trainer.save_state("state").result()
    seen = {"path": saved.path, "logprobs": logprobs_of(trainer.forward(batch).result())}
    seen["went_on"] = [take_step(trainer, batch) for _ in range(2)]
    seen["step_with_optimizer"] = trainer.load_state_with_optimizer(saved.path).result().step
    seen["resumed"] = [take_step(trainer, batch) for _ in range(2)]
    seen["step"] = trainer.load_state(saved.path).result().step
    seen["loaded"] = logprobs_of(trainer.forward(batch).result())
    with service.create_training_client_from_state_with_optimizer(saved.path) as other:
        seen["other_run_id"] = other.run_id
        seen["other_resumed"] = [take_step(other, batch) for _ in range(2)]
    with service.create_training_client_from_state(saved.path) as other:
        seen["other_loaded"] = logprobs_of(other.forward(batch).result())
    return seen, saved.path


def publish(service: ServiceClient, trainer: TrainingClient, base_model: str, fresh: list) -> dict:
    """Sample what was published, what was staged and what the base model says."""
    prompt = ModelInput.from_ints(PROMPT)
    seen = {"live": score(trainer, PROMPT), "base": fresh}
    live = trainer.save_weights_and_get_sampling_client("live")
    seen["policy_version"] = trainer.policy_version
    greedy = SamplingParams(max_tokens=5, temperature=0.0)
    reply = live.sample(prompt, sampling_params=greedy)
    seen["reply"] = reply.model_dump(mode="json")
    seen["reply_scored"] = score(trainer, PROMPT + reply.sequences[0].tokens)
    drawn = SamplingParams(max_tokens=4, temperature=0.8, seed=3)
    for name in ("drawn", "drawn_again"):
        reply = live.sample(prompt, 2, drawn, include_prompt_logprobs=True, topk_prompt_logprobs=3)
        seen[name] = reply.model_dump(mode="json")
    take_step(trainer, make_batch())
    seen["staged"] = score(trainer, PROMPT)
    staged = trainer.save_weights_for_sampler("staged").result()
    seen["staged_path"], seen["staged_version"] = staged.path, staged.version
    samplers = {
        "live": live,
        "staged": service.create_sampling_client(model_path=staged.path),
        "staged_of_run": trainer.create_sampling_client(staged.path),
        "base": service.create_sampling_client(base_model=base_model),
    }
    seen["computed"] = {name: each.compute_logprobs(prompt) for name, each in samplers.items()}
    seen["base_model_name"] = live.discover_base_model_name()
    seen["adapter_name"] = live.discover_adapter_name()
    for each in samplers.values():
        each.close()
    return seen


def read_files(service: ServiceClient, trainer: TrainingClient, folder: Path) -> dict:
    """List the run's checkpoints, page through the links of one, and download two."""
    listed = trainer.list_checkpoints()
    again = service.list_checkpoints(trainer.run_id)
    seen: dict = {"same": listed == again}
    seen["listed"] = [row.model_dump(mode="json", by_alias=True) for row in listed]
    names, token = [], 0
    while token is not None:
        page = trainer.get_checkpoint_archive_url(
            name="state", target="trainer", page_size=1, page_token=token
        )
        names.extend(file.relative_file_name for file in page.presigned_urls)
        seen["total_count"], token = page.total_count, page.next_page_token
    seen["paged_names"] = names
    for name, target in (("state", "trainer"), ("staged", "sampler")):
        to = folder / name
        loaded = trainer.download_checkpoint(name=name, target=target, dest_dir=str(to))
        sizes = {f.relative_to(to).as_posix(): f.stat().st_size for f in to.rglob("*")}
        seen[name] = {"bytes": loaded.bytes_written, "sizes": sizes, "folder": str(to)}
    return seen


def custom_loss(trainer: TrainingClient, path: str) -> dict:
    """Train with half the sum of squared logprobs; then say the same with weights by hand."""

    def halved_squares(_data: list, logprobs: list) -> tuple:
        return sum((each * each).sum() for each in logprobs) * 0.5, {"mine": 1.5}

    batch, config = make_batch(), {"skip_token_normalization": True}
    trainer.load_state(path).result()
    found = trainer.forward_backward_custom(batch, halved_squares).result()
    step = trainer.optim_step(ADAM).result().metrics
    trainer.load_state(path).result()
    rows = logprobs_of(trainer.forward(batch).result())
    by_hand = [with_weights(datum, row) for datum, row in zip(batch, rows, strict=True)]
    expected = trainer.forward_backward(by_hand, "cross_entropy", config).result()
    return {
        "torch": torch.__version__,
        "metrics": found.metrics,
        "loss": found.loss,
        "step": step,
        "expected_loss": expected.loss,
        "expected_step": trainer.optim_step(ADAM).result().metrics,
    }


def with_weights(datum: Datum, row: list[float | None]) -> Datum:
    """Return the datum with minus the derivative of half the squares as its weights."""
    weights = TensorData(
        data=[0.0 if value is None or value != value else -value for value in row],
        dtype="float32",
        shape=[len(row)],
    )
    return datum.model_copy(update={"loss_fn_inputs": {**datum.loss_fn_inputs, "weights": weights}})


def chunked(trainer: TrainingClient, path: str) -> dict:
    """Send one batch over the size cap, then the same in two halves by hand."""
    rng = random.Random(1)
    batch = [wide_datum(rng) for _ in range(NUM_WIDE)]
    trainer.load_state(path).result()
    whole = trainer.forward_backward(batch)
    step = trainer.optim_step(ADAM)  # the split batch and its step are pipelined
    seen: dict = {"outputs": [one["logprobs"].data[:2] for one in whole.result().loss_fn_outputs]}
    seen["loss"], seen["step"] = whole.result().loss, step.result().metrics
    trainer.load_state(path).result()
    half = NUM_WIDE // 2
    halves = [trainer.forward_backward(part).result() for part in (batch[:half], batch[half:])]
    seen["expected_outputs"] = [
        one["logprobs"].data[:2] for output in halves for one in output.loss_fn_outputs
    ]
    seen["expected_loss"] = sum(output.loss for output in halves) / 2
    seen["expected_step"] = trainer.optim_step(ADAM).result().metrics
    return seen


def wide_datum(rng: random.Random) -> Datum:
    """Return a datum with many weighted targets a position."""
    shape = [WIDE_POSITIONS, NUM_TARGETS]
    num = WIDE_POSITIONS * NUM_TARGETS
    targets = int_tensor([rng.randrange(3, 32) for _ in range(num)])
    weights = TensorData(data=[rng.random() for _ in range(num)], dtype="float32", shape=shape)
    return Datum(
        model_input=ModelInput.from_ints([rng.randrange(3, 32) for _ in range(WIDE_POSITIONS)]),
        loss_fn_inputs={
            "target_tokens": targets.model_copy(update={"shape": shape}),
            "weights": weights,
        },
    )
