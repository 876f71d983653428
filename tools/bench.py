"""Measures what Loops itself costs: its import, one operation from call to result, and packing.

    make bench

A pass of the instant backend returns at once and the mock backend's does next to nothing, so what
is measured is the client, the log, and the thread that applies entries. Nothing is judged here, and
every figure is a median. Where the threads run makes a difference of a third: the best of the runs
is printed beside the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import instant
import numpy as np
from pydantic import BaseModel

from loops_core import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    ModelInput,
    ServiceClient,
    TensorData,
    TrainingClient,
)
from loops_core.plugins import Plugins
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody

IMPORTS = {
    "import loops_core": "import loops_core",
    "from loops_core import ServiceClient": "from loops_core import ServiceClient",
}
CLOCK = "import time; s = time.perf_counter(); {body}; print(time.perf_counter() - s)"


def import_s(body: str) -> float:
    """Return the seconds that an import takes in a fresh interpreter."""
    command = [sys.executable, "-c", CLOCK.format(body=body)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def make_datum() -> Datum:
    """Return a datum of 64 positions."""
    tokens = [5 + n % 200 for n in range(65)]
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": TensorData.from_list(tokens[1:], "int64")},
    )


def make_batch(num_datums: int, length: int) -> list[Datum]:
    """Return a batch as reinforcement learning sends it."""
    rng, batch = np.random.default_rng(0), list[Datum]()
    for _ in range(num_datums):
        tokens = rng.integers(0, 150_000, length + 1)
        floats = rng.normal(size=(2, length)).astype(np.float32)
        tensors = {
            "target_tokens": TensorData.from_numpy(tokens[1:]),
            "logprobs": TensorData.from_numpy(floats[0]),
            "advantages": TensorData.from_numpy(floats[1]),
        }
        model_input = ModelInput.from_ints(tokens[:-1].tolist())
        batch.append(Datum(model_input=model_input, loss_fn_inputs=tensors))
    return batch


def make_output(num_datums: int, length: int) -> ForwardBackwardOutput:
    """Return a result with the log-probabilities of such a batch."""
    logprobs = TensorData.from_numpy(np.full(length, -0.5, dtype=np.float32))
    return ForwardBackwardOutput(loss_fn_outputs=[{"logprobs": logprobs}] * num_datums)


class PlainTensor(BaseModel):
    """A tensor as a server without arrays reads it."""

    data: list[float | None]
    dtype: str
    shape: list[int]


class PlainDatum(BaseModel):
    """A datum as such a server reads it."""

    model_input: dict[str, object]
    loss_fn_inputs: dict[str, PlainTensor]


class PlainBody(BaseModel):
    """A body as such a server reads it."""

    data: list[PlainDatum]


def through_json(data: list[Datum]) -> bytes:
    """Return the JSON of a batch, made datum by datum, measured, made as a whole and read back."""
    dumped = [datum.model_dump(mode="json") for datum in data]
    sizes = [len(json.dumps(datum, separators=(",", ":"))) for datum in dumped]
    text = json.dumps({"data": dumped}, separators=(",", ":")).encode()
    assert sum(sizes) < len(text)
    PlainBody.model_validate(json.loads(text))
    return text


def median_s(call: Callable[[], object], num_runs: int) -> float:
    """Return the median seconds of a call."""
    seconds: list[float] = []
    for _ in range(num_runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def report(name: str, figure: str) -> None:
    """Print a line of the table."""
    print(f"{name:<50}{figure}", flush=True)


def one_by_one(trainer: TrainingClient, num_steps: int) -> None:
    """Take steps, each result read before the next submit."""
    data = [make_datum()]
    for _ in range(num_steps):
        trainer.forward_backward(data).result()
        trainer.optim_step(AdamParams()).result()


def pipelined(trainer: TrainingClient, num_steps: int) -> None:
    """Submit all steps, then read the results."""
    data, adam = [make_datum()], AdamParams()
    futures = [(trainer.forward_backward(data), trainer.optim_step(adam)) for _ in range(num_steps)]
    for step, update in futures:
        step.result()
        update.result()


def operations_per_second(
    run: Callable[[TrainingClient, int], None], *, data_dir: str, num_steps: int
) -> float:
    """Return how many operations a second a way of calling reaches."""
    with ServiceClient(base_url=f"inproc:mock?data_dir={data_dir}") as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        run(trainer, 2)
        start = time.perf_counter()
        run(trainer, num_steps)
        return 2 * num_steps / (time.perf_counter() - start)


def instant_s(*, data_dir: str, num_datums: int, length: int, num_calls: int) -> list[float]:
    """Return the seconds that each `forward_backward(...).result()` of a batch takes, sorted."""
    plugins = Plugins.load(extra=[instant])
    url = f"inproc:instant?data_dir={data_dir}"
    with ServiceClient(base_url=url, plugins=plugins) as service:
        trainer = service.create_lora_training_client(instant.MODEL, rank=4, seed=0)
        data, seconds = make_batch(num_datums, length), list[float]()
        for number in range(2 * num_calls):
            start = time.perf_counter()
            trainer.forward_backward(data, "ppo").result()
            if number >= num_calls:
                seconds.append(time.perf_counter() - start)
    return sorted(seconds)


def report_import(num_runs: int) -> None:
    """Print what the imports take."""
    for name, body in IMPORTS.items():
        seconds = statistics.median(import_s(body) for _ in range(num_runs))
        report(name, f"{seconds * 1000:8.0f} ms")


def report_instant(num_runs: int) -> None:
    """Print what one operation takes."""
    for place, num_calls in (("memory", 1_000), ("file", 200)):
        for num_datums, length in ((1, 8), (32, 1_024)):
            halves: list[float] = []
            for _ in range(num_runs):
                with tempfile.TemporaryDirectory() as folder:
                    seconds = instant_s(
                        data_dir=":memory:" if place == "memory" else folder,
                        num_datums=num_datums,
                        length=length,
                        num_calls=num_calls if num_datums == 1 else num_calls // 10,
                    )
                halves.append(statistics.median(seconds) * 1000)
            report(
                f"instant pass of {num_datums} x {length:,}, log in {place}",
                f"{statistics.median(halves):8.3f} ms at p50, {min(halves):.3f} in the best run",
            )


def report_rates(num_runs: int, num_steps: int) -> None:
    """Print how many operations of the mock backend a second holds."""
    for run in (one_by_one, pipelined):
        for place in ("memory", "file"):
            rates: list[float] = []
            for _ in range(num_runs):
                with tempfile.TemporaryDirectory() as folder:
                    data_dir = ":memory:" if place == "memory" else folder
                    rate = operations_per_second(run, data_dir=data_dir, num_steps=num_steps)
                    rates.append(rate)
            name = f"{run.__name__.replace('_', ' ')}, log in {place}"
            report(name, f"{statistics.median(rates):8.0f} operations a second")


def report_packing(num_runs: int) -> None:
    """Print what packing costs, beside JSON made and read as a plain client and server would."""
    for num_datums, length in ((32, 1_024), (64, 8_192)):
        batch = make_batch(num_datums, length)
        body, output = ForwardBody(data=batch, loss_fn="ppo"), make_output(num_datums, length)
        packed, answer = pack(body), pack(output)
        costs = {
            "pack": median_s(lambda body=body: pack(body), num_runs),
            "unpack": median_s(lambda packed=packed: unpack(packed, ForwardBody), num_runs),
            "unpack of the result": median_s(
                lambda answer=answer: unpack(answer, ForwardBackwardOutput), num_runs
            ),
        }
        for name, seconds in costs.items():
            report(f"{name}, {num_datums} x {length:,}", f"{seconds * 1000:8.2f} ms")
        json_s = median_s(lambda batch=batch: through_json(batch), max(1, num_runs // 2))
        both_s = costs["pack"] + costs["unpack"]
        report(
            f"JSON there and back, {num_datums} x {length:,}",
            f"{json_s * 1000:8.2f} ms, {json_s / both_s:.0f} times as long; "
            f"packed takes {len(packed) / len(through_json(batch)):.2f} of its bytes",
        )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="steps of two operations each")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken")
    given = parser.parse_args()
    report_import(given.runs)
    report_instant(given.runs)
    report_rates(given.runs, given.steps)
    report_packing(given.runs)


if __name__ == "__main__":
    main()
