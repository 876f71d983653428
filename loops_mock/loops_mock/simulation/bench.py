"""What a simulated world costs: operations a second, and an hour of training."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import typer

from loops_core.client.training import TrainingClient
from loops_core.client.waiting import BaseFuture
from loops_core.protocols import Backend
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.sampling import SamplingParams
from loops_core.types.training import AdamParams
from loops_mock.simulation.blank import BlankBackend
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.faults import MESSAGE_FAULTS, FaultPlan, Preempt, Restart
from loops_mock.simulation.world import World

MODEL: Final = "mock-tiny"
_STEP: Final = AdamParams(learning_rate=0.01)
LARGE: Final = Durations(
    forward_backward_s=25.0, optim_step_s=2.0, save_s=5.0, deploy_s=5.0, token_s=0.25
)
"""How long things take with a model of many billion weights."""

_WINDOW: Final = 64
"""How many operations a pipelining program has under way."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured run.

    Attributes:
        name: what ran.
        wall_s: how long that took.
        cpu_s: how much of it this process computed; a busy machine stretches the other.
        virtual_s: how much time passed in the world.
        operations: how many were submitted and their results fetched.
        median_s: the median of what one of them took; None where several were under way.
        digest: of the trace.
    """

    name: str
    wall_s: float
    cpu_s: float
    virtual_s: float
    operations: int
    median_s: float | None
    digest: str


def run(*, operations: int, as_json: bool) -> None:
    """Measure everything, and print each row as it comes."""
    report = Report(as_json=as_json)
    plan = FaultPlan.seeded(1, rate=0.1, kinds=(*MESSAGE_FAULTS, Restart, Preempt))
    report.show(measure("sequential", sequential, operations, open_backend=BlankBackend))
    report.show(measure("pipelined", pipelined, operations, open_backend=BlankBackend))
    report.show(measure("mock", pipelined, operations // 5))
    report.show(measure("faults", pipelined, operations // 20, plan=plan))
    report.show(measure("hour", hour, operations, durations=LARGE))


def measure(
    name: str,
    program: Callable[[World, int, list[float]], int],
    operations: int,
    *,
    open_backend: Callable[[], Backend] | None = None,
    plan: FaultPlan | None = None,
    durations: Durations | None = None,
) -> Row:
    """Return what a program took in a world of its own; the world's making is left out."""
    with World(7, plan, durations=durations, open_backend=open_backend) as world:
        begin_s = world.clock.monotonic()
        gc.collect()
        gc.freeze()  # what was there before is not what is measured
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        laps: list[float] = []
        done = program(world, operations, laps)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        gc.unfreeze()
        return Row(
            name=name,
            wall_s=wall_s,
            cpu_s=cpu_s,
            virtual_s=world.clock.monotonic() - begin_s,
            operations=done,
            median_s=statistics.median(laps) if laps else None,
            digest=world.trace.digest(),
        )


def sequential(world: World, operations: int, laps: list[float]) -> int:
    """Run passes and steps, each once the one before has its result."""
    trainer = _trainer(world)
    for _ in range(operations // 2):
        begin_s = time.perf_counter()
        trainer.forward_backward(_data()).result()
        trainer.optim_step(_STEP).result()
        laps.append((time.perf_counter() - begin_s) / 2)
    return operations // 2 * 2


def pipelined(world: World, operations: int, laps: list[float]) -> int:
    """Run passes and steps, many of them under way."""
    del laps
    trainer = _trainer(world)
    futures: list[BaseFuture[Any]] = []
    for _ in range(operations // 2):
        futures += [trainer.forward_backward(_data()), trainer.optim_step(_STEP)]
        if len(futures) >= _WINDOW:
            _collect(futures)
    _collect(futures)
    return operations // 2 * 2


def hour(world: World, operations: int, laps: list[float]) -> int:
    """Train for an hour of the world's time: sample, pass, step, publish, wait for the sampler."""
    del laps
    trainer = _trainer(world)
    sampler = trainer.save_weights_and_get_sampling_client("v0").result()
    params = SamplingParams(max_tokens=32)
    done = 1
    while world.clock.monotonic() < 3600.0 and done < operations:
        sampler.sample(ModelInput.from_ints([1, 2, 3]), num_samples=4, sampling_params=params)
        _collect([trainer.forward_backward(_data()), trainer.optim_step(_STEP)])
        sampler = trainer.save_weights_and_get_sampling_client(f"v{done}").result()
        done += 4
    return done


@final
class Report:
    """Prints rows as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        if not as_json:
            typer.echo(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}")

    def show(self, row: Row) -> None:
        """Print a row."""
        if self._as_json:
            typer.echo(json.dumps(asdict(row)))
            return
        median = "" if row.median_s is None else f"; {1 / row.median_s:,.0f} a second at the median"
        typer.echo(
            f"{row.name:<11}{row.operations:>7} operations in {row.wall_s:6.2f} s"
            f" ({row.operations / row.wall_s:7,.0f} a second), CPU {row.cpu_s:6.2f} s"
            f" ({row.operations / row.cpu_s:7,.0f} a second){median};"
            f" {row.virtual_s:8,.0f} s of the world  {row.digest[:16]}"
        )


def _trainer(world: World) -> TrainingClient:
    return world.service().create_lora_training_client(MODEL, rank=4, seed=1)


def _data() -> list[Datum]:
    return [
        Datum(model_input=ModelInput.from_ints([1, 2, 3, 4, 5, 6, 7, 8]), loss_fn_inputs={}),
    ]


def _collect(futures: list[BaseFuture[Any]]) -> None:
    for future in futures:
        future.result()
    futures.clear()
