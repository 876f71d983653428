"""Measures what Loops itself costs: its import, and the operations of a backend that does little.

    make bench

The mock backend's passes do next to nothing, so what is measured is the client, the log, and the
thread that applies entries. Nothing is judged here, and every figure is a median. What a pass costs
that takes no time at all, what packing costs and what HTTP costs: `loops bench protocol`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from loops_core import AdamParams, Datum, ModelInput, ServiceClient, TensorData, TrainingClient

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


def report_import(num_runs: int) -> None:
    """Print what the imports take."""
    for name, body in IMPORTS.items():
        seconds = statistics.median(import_s(body) for _ in range(num_runs))
        report(name, f"{seconds * 1000:8.0f} ms")


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


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="steps of two operations each")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken")
    given = parser.parse_args()
    report_import(given.runs)
    report_rates(given.runs, given.steps)


if __name__ == "__main__":
    main()
