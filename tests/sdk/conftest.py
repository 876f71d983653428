"""The published SDK in its own environment, played against a served backend once a test run.

What is in `program/` is run by the SDK's interpreter; it is no test, and is not imported here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.sdk.environment import MissingError, made_once, sdk_python
from tests.sdk.playing import Backend, play_all

collect_ignore = ["program"]

BACKENDS: Final = {
    "mock": Backend("mock", "an-org/mini", "mock-tiny", "loops_mock"),
    "jax": Backend("jax", "loops-tiny", "loops-tiny", "loops_backend_jax"),
}


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """Return an interpreter that has the SDK."""
    cache = request.config.rootpath / ".pytest_cache" / "loops"
    try:
        return sdk_python(cache)
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def seen(
    request: pytest.FixtureRequest, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return what the SDK saw of a backend; played once, also where several processes test."""
    backend = BACKENDS[str(request.param)]
    if importlib.util.find_spec(backend.package) is None:
        pytest.skip(f"the distribution with backend {backend.name} is not installed")
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent  # which the processes of pytest-xdist share

    def play(path: Path) -> None:
        path.write_text(json.dumps(play_all(backend, python, folder / f"sdk-data-{backend.name}")))

    return json.loads(made_once(folder / f"sdk-{backend.name}.json", play).read_text())


@pytest.fixture
def section(seen: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Return a function that tells what one section saw; it fails where the section did not end."""

    def tell(name: str) -> dict[str, Any]:
        played = seen[name]
        assert played["seen"] is not None, played["stderr"]
        return played["seen"]

    return tell
