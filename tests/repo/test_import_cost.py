"""What everybody imports stays cheap: `loops_core`, its public names, the pytest plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.slow  # each case is a process of its own

ARRAYS_AND_WEB = {"jax", "jaxlib", "flax", "torch", "transformers", "wandb", "httpx", "starlette"}
HEAVY = ARRAYS_AND_WEB | {"uvicorn", "sqlalchemy", "typer", "rich", "matplotlib", "fsspec"}

SCRIPT = """
import json, sys, time
start = time.process_time()
{body}
seconds = time.process_time() - start
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def run(body: str) -> tuple[float, set[str]]:
    """Return processor seconds and top-level modules of a body in a fresh interpreter."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    seconds, modules = json.loads(output)
    return seconds, set(modules)


@pytest.mark.parametrize(
    ("body", "forbidden"),
    [
        ("import loops_core", HEAVY | {"pydantic", "numpy"}),
        ("import loops_core.errors, loops_core.hooks", HEAVY),
        ("import loops_mock.pytest_plugin", HEAVY | {"pydantic", "numpy", "hypothesis"}),
        ("import loops_core\nfor n in loops_core.__all__: getattr(loops_core, n)", HEAVY),
    ],
    ids=["package", "hooks", "pytest-plugin", "all-names"],
)
def test_what_everybody_imports_loads_no_heavy_library(
    body: str, forbidden: set[str], record_property: Callable[[str, object], None]
) -> None:
    seconds, modules = run(body)
    record_property("import_s", round(seconds, 3))
    assert modules.isdisjoint(forbidden), modules & forbidden


OPEN_MOCK = """
import loops_mock, pathlib, tempfile
from loops_core.protocols import BackendConfig, SamplerSpec, TrainerSpec
from loops_mock.plugin import loops_backend
from loops_mock.config import ModelConfig
backend = loops_backend("mock", BackendConfig())
with tempfile.TemporaryDirectory() as name:
    model_dir = pathlib.Path(name)
    (model_dir / "config.json").write_text(ModelConfig(name="mock-tiny").model_dump_json())
    backend.open_trainer(TrainerSpec(base_model="mock-tiny", model_dir=model_dir))
    backend.open_sampler(SamplerSpec(base_model="mock-tiny", model_dir=model_dir))
"""


def test_opening_the_mock_takes_half_a_second_and_loads_no_test_tool(
    record_property: Callable[[str, object], None],
) -> None:
    seconds, modules = run(OPEN_MOCK)
    record_property("open_mock_s", round(seconds, 3))
    forbidden = HEAVY | {"hypothesis", "pytest", "_pytest", "uvloop"}
    assert modules.isdisjoint(forbidden), modules & forbidden
    assert seconds < 0.5
