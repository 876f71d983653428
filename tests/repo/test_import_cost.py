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
start = time.perf_counter()
{body}
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def run(body: str) -> tuple[float, set[str]]:
    """Return seconds taken and top-level modules loaded by a body in a fresh interpreter."""
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
