"""A training run behind a proxy, and the oracle that counts what was executed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, final

import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.proxy import Proxy

from loops_core import AdamParams, Datum, ModelInput, TensorData, TrainingClient
from loops_core.client.waiting import BaseFuture
from loops_core.errors import RemoteOpError
from loops_core.types.training import ForwardBackwardOutput

SUBMIT: Final = "POST .*/forward_backward$"
STEP: Final = "POST .*/optim_step$"
OPERATION: Final = "POST .*/(forward|forward_backward|optim_step)$"
RETRIEVE: Final = "GET .*/operations/|POST .*/operations/poll$"

Pass = BaseFuture[ForwardBackwardOutput]

STANDING: Final = AdamParams(learning_rate=0.0)
"""A step that is counted and changes no weight: every pass over one batch has one result."""


def make_data(size: int) -> list[Datum]:
    """Return a batch of one datum with so many active positions."""
    tokens = [1 + index % 50 for index in range(size)]
    targets = TensorData(data=tokens, dtype="int64", shape=[size])
    model_input = ModelInput.from_ints(tokens)
    return [Datum(model_input=model_input, loss_fn_inputs={"target_tokens": targets})]


@final
@dataclass
class Training:
    """A run of its own on a server that other tests share.

    Attributes:
        client: reaches the server through the proxy.
        proxy: does what it is told.
        clock: the client's.
        runner: the event loop to train from; None = plain threads.
        steps: how many optimizer steps there must be by now.
    """

    client: TrainingClient
    proxy: Proxy
    clock: SkippingClock
    runner: asyncio.Runner | None = None
    steps: int = 0
    results: dict[int, ForwardBackwardOutput] = field(
        default_factory=dict[int, ForwardBackwardOutput]
    )

    def submit(self, size: int) -> Pass:
        """Hand a pass over a batch of that size over."""
        return self.submit_data(make_data(size))

    def submit_data(self, data: list[Datum]) -> Pass:
        """Hand a pass over this batch over."""
        if self.runner is None:
            return self.client.forward_backward(data)
        return self.runner.run(self.client.forward_backward_async(data))

    def result(self, future: Pass, *, timeout_s: float | None = None) -> ForwardBackwardOutput:
        """Wait for a pass."""
        if self.runner is None:
            return future.result(timeout_s)
        return self.runner.run(future.result_async(timeout_s))

    def learn(self, size: int) -> None:
        """Find out, undisturbed, what a batch of that size gives."""
        self.results[size] = self.result(self.submit(size))
        self.check_active(size)

    def check_result(self, size: int, result: ForwardBackwardOutput) -> None:
        """Check that a pass gave what it gives undisturbed."""
        assert result == self.results[size]

    def check_active(self, *sizes: int) -> None:
        """Check that since the last call exactly the batches of these sizes were executed once.

        Every executed batch adds its active positions to the next step's.
        """
        self.steps += 1
        metrics = self.client.optim_step(STANDING).result().metrics
        assert metrics is not None
        assert metrics["active_tokens"] == sum(sizes)
        assert metrics["step"] == self.steps

    def check_nothing_active(self) -> None:
        """Check that since the last call no batch was executed at all."""
        with pytest.raises(RemoteOpError, match="no gradients"):
            self.client.optim_step(STANDING).result()
