"""Real pytest runs inside the test run: small test files that use the plugin."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import loops_core.inprocess
import loops_core.worker.opening
import loops_mock.plugin
from loops_mock.simulation import faults

LOADED = (np, loops_core.inprocess, loops_core.worker.opening, loops_mock.plugin, faults)
"""An inner run forgets what it imports first, and NumPy can be loaded once only: so it is here."""

HEADER = """
import os

import pytest

from loops_core import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient, TensorData

def datum(tokens):
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": TensorData.from_list(tokens[1:], "int64")},
    )

DATA = [datum([5, 6, 7, 8])]
PROMPT = ModelInput.from_ints([1, 2, 3])

def train(trainer, data=DATA):
    passed = trainer.forward_backward(data)
    step = trainer.optim_step(AdamParams(learning_rate=1e-2))
    step.result()
    return passed.result().loss
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a test file with the plugin, and with no other that is not named."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_file(
        text: str, *options: str, plugins: Sequence[str] = (), ini: str = ""
    ) -> pytest.RunResult:
        lines = ["[pytest]", "filterwarnings = error", "addopts = --strict-markers", ini]
        pytester.makeini("\n".join(lines))
        pytester.makepyfile(test_loop=HEADER + textwrap.dedent(text))
        loaded = [f"-p{name}" for name in ("loops_mock.pytest_plugin", *plugins)]
        return pytester.runpytest_inprocess("-pno:cacheprovider", *loaded, *options)

    return run_file
