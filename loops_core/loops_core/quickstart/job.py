"""The whole of the quickstart: sample, train, save, publish, sample again, resume, write files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from loops_core.clock import Clock
from loops_core.quickstart import loss_curve, report
from loops_core.quickstart.display import Display
from loops_core.quickstart.encoding import Batches, Tokenizer, encode_instructions
from loops_core.quickstart.instructions import Instruction, load_instructions
from loops_core.quickstart.output import OutputFiles, prepare_output
from loops_core.quickstart.resume import ResumeProof, prove_resume
from loops_core.quickstart.sampling import Comparison, ask, choose_prompts
from loops_core.quickstart.settings import QuickstartSettings, learning_rate_at
from loops_core.quickstart.training import RESULT_TIMEOUT_S, StepRecord, Trainee, train
from loops_core.types.training import WandbConfig

if TYPE_CHECKING:
    from loops_core.client.service import ServiceClient
    from loops_core.client.training import TrainingClient

CHECKPOINT_NAME: Final = "trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartResult:
    """What came of it.

    Attributes:
        losses: how far the loss fell.
        proof: whether the checkpoint resumes bit for bit.
        comparisons: what the model said before and after.
        checkpoint: address of the saved state.
        tokens_per_second: positions trained on per second, in the median step.
        seconds: from start to end.
    """

    losses: report.LossFigures
    proof: ResumeProof
    comparisons: tuple[Comparison, ...]
    checkpoint: str
    tokens_per_second: float
    seconds: float

    @property
    def failures(self) -> list[str]:
        """Return what did not come out as promised; empty after a good run."""
        failed: list[str] = []
        if not self.losses.fell:
            failed.append(
                f"the loss went from {self.losses.first:.3f} to {self.losses.last:.3f}: not under"
                f" {report.WANTED_RATIO:.0%} of the first; take more --steps or another"
                " --learning-rate"
            )
        if not self.proof.is_exact:
            differences = ", ".join(self.proof.differences)
            failed.append(f"the checkpoint did not resume bit for bit: {differences}")
        return failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What the parts of a run share."""

    settings: QuickstartSettings
    files: OutputFiles
    display: Display
    clock: Clock
    client: TrainingClient
    tokenizer: Tokenizer
    batches: Batches
    prompts: dict[str, str | None]


def run_quickstart(
    settings: QuickstartSettings, display: Display, *, clock: Clock
) -> QuickstartResult:
    """Run the main job and return what came of it.

    Raises:
        LoopsError: an argument, a file, the model or the service is not as it must be.
    """
    start_s = clock.monotonic()
    loss_curve.check_plotting()
    instructions = load_instructions(settings.data)
    files = prepare_output(settings.output)
    from loops_core.client.service import ServiceClient

    with display.listening(), ServiceClient(base_url=settings.base_url) as service:
        bench = _open_bench(service, settings, instructions, files, display, clock)
        before = _publish_and_ask(bench, "untrained")
        records = _train(bench)
        saved = bench.client.save_state(CHECKPOINT_NAME).result(timeout=RESULT_TIMEOUT_S)
        after = _publish_and_ask(bench, CHECKPOINT_NAME, adapter_to=files.adapter)
        comparisons = _compare(bench, before, after)
        proof = _prove_resume(bench, service, saved.path)
        bench.client.close()
    return QuickstartResult(
        losses=report.make_loss_figures(records),
        proof=proof,
        comparisons=comparisons,
        checkpoint=saved.path,
        tokens_per_second=_speed(records),
        seconds=clock.monotonic() - start_s,
    )


def _open_bench(
    service: ServiceClient,
    settings: QuickstartSettings,
    instructions: Sequence[Instruction],
    files: OutputFiles,
    display: Display,
    clock: Clock,
) -> _Bench:
    display.say(f"loading {settings.base_model}")
    client = _open_client(service, settings, wandb=True)
    tokenizer = cast("Tokenizer", client.get_tokenizer())
    data = encode_instructions(tokenizer, instructions, max_seq_len=client.get_info().max_seq_len)
    return _Bench(
        settings=settings,
        files=files,
        display=display,
        clock=clock,
        client=client,
        tokenizer=tokenizer,
        batches=Batches(data, settings.batch_size, settings.seed),
        prompts=choose_prompts(instructions, settings.prompts),
    )


def _open_client(
    service: ServiceClient, settings: QuickstartSettings, *, wandb: bool
) -> TrainingClient:
    config = None
    if wandb and settings.wandb_project is not None:
        config = WandbConfig(project=settings.wandb_project, name="quickstart")
    return service.create_lora_training_client(
        settings.base_model, rank=settings.rank, seed=settings.seed, wandb_config=config
    )


def _train(bench: _Bench) -> list[StepRecord]:
    settings = bench.settings
    bench.display.say(
        f"training {settings.steps} steps of {settings.batch_size} examples"
        f" out of {len(bench.batches.data)}, LoRA rank {settings.rank}"
    )
    done = 0
    with (
        bench.files.metrics.open("w", encoding="utf-8") as metrics,
        bench.display.steps(settings.steps) as bar,
    ):

        def on_step(record: StepRecord) -> None:
            nonlocal done
            done += 1
            report.write_record(metrics, record)
            bar.show(record, done=done)

        records = _run_steps(bench, bench.client, range(settings.steps), on_step)
    title = f"loops quickstart: {settings.base_model}, LoRA rank {settings.rank}"
    loss_curve.write_loss_curve(bench.files.loss_curve, records, title=title)
    return records


def _run_steps(
    bench: _Bench, client: Trainee, steps: range, on_step: Callable[[StepRecord], None]
) -> list[StepRecord]:
    return train(
        client,
        steps=steps,
        batch_at=bench.batches.at,
        learning_rate_at=lambda step: learning_rate_at(step, bench.settings),
        clock=bench.clock,
        on_step=on_step,
    )


def _publish_and_ask(bench: _Bench, name: str, *, adapter_to: Path | None = None) -> list[str]:
    """Publish the weights and ask the sampler that holds them; copy the adapter if asked to."""
    publishing = bench.client.save_weights_and_get_sampling_client(name)
    with publishing.result(timeout=RESULT_TIMEOUT_S) as sampler:
        if adapter_to is not None:
            bench.client.download_checkpoint(dest_dir=adapter_to, name=name, target="sampler")
        return ask(sampler, bench.tokenizer, list(bench.prompts))


def _compare(bench: _Bench, before: Sequence[str], after: Sequence[str]) -> tuple[Comparison, ...]:
    comparisons = tuple(
        Comparison(prompt=prompt, taught=taught, before=first, after=second)
        for (prompt, taught), first, second in zip(
            bench.prompts.items(), before, after, strict=True
        )
    )
    report.write_samples(bench.files.samples, comparisons)
    bench.display.say("what the model says, most likely answer")
    bench.display.samples(comparisons)
    return comparisons


def _prove_resume(bench: _Bench, service: ServiceClient, path: str) -> ResumeProof:
    settings = bench.settings
    bench.display.say(
        f"training {settings.resume_steps} more steps, here and from {path} in a new trainer"
    )
    steps = range(settings.steps, settings.steps + settings.resume_steps)
    second = _open_client(service, settings, wandb=False)
    try:
        return prove_resume(
            bench.client,
            second,
            path=path,
            run_steps=lambda client: _run_steps(bench, client, steps, _keep_quiet),
        )
    finally:
        second.close()


def _keep_quiet(record: StepRecord) -> None:
    """Show nothing of a step whose record is compared instead."""
    del record


def _speed(records: Sequence[StepRecord]) -> float:
    """Return positions per second in the median step: some steps wait for a compilation."""
    return statistics.median(record.tokens_per_second for record in records)
