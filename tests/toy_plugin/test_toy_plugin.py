"""A package from outside adds a backend, a transport, a loss and an observer by being installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow  # builds and installs a wheel


@dataclass(frozen=True, slots=True)
class Found:
    """What the program printed."""

    plugins: list[str]
    losses: list[float]
    tokens: list[int]
    calls: dict[str, int]
    seen: list[str]


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with `path` before everything that is installed."""
    variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
        timeout=240,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that the package was installed into, with pip and nothing else."""
    root = tmp_path_factory.mktemp("toy")
    source = shutil.copytree(HERE, root / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = run("-m", "pip", "install", *options, "--target", str(root / "site"), str(source))
    assert done.returncode == 0, done.stderr
    return root / "site"


@pytest.fixture(scope="module")
def found(installed: Path) -> Found:
    done = run(str(HERE / "program.py"), path=installed)
    assert done.returncode == 0, done.stderr
    return Found(**json.loads(done.stdout))


def test_installing_is_all_it_takes(found: Found) -> None:
    assert {"toy", "inproc"} <= set(found.plugins)


def test_the_backend_learns_with_the_loss_from_outside(found: Found) -> None:
    assert found.losses[-1] < found.losses[0] / 2


def test_the_trained_weights_answer(found: Found) -> None:
    assert found.tokens == [3, 3, 3, 3]


def test_the_transport_carried_every_call(found: Found) -> None:
    assert found.calls["forward_backward"] == found.calls["optim_step"] == 20
    assert found.calls["sample"] == 1
    assert {"create_session", "create_trainer", "retrieve"} <= set(found.calls)


def test_the_observer_was_told(found: Found) -> None:
    assert found.seen.count("finished forward_backward") == 20
    expected = "metrics optim_step: active_tokens grad_norm learning_rate step"
    assert expected in found.seen


def test_without_the_package_its_names_are_told_as_unknown(tmp_path: Path) -> None:
    program = "from loops_core import ServiceClient\n"
    program += "ServiceClient(base_url='counted:inproc:toy').create_lora_training_client('toy')\n"
    done = run("-c", program, path=tmp_path)
    assert done.returncode == 1
    assert "PluginError: no installed plugin brings a transport for base_url" in done.stderr


def test_its_backend_transport_and_service_keep_the_contract(
    installed: Path, tmp_path: Path
) -> None:
    shutil.copy(HERE / "contract_of_toy.py", tmp_path / "test_contract.py")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = run("-m", "pytest", *options, str(tmp_path), path=installed)
    assert done.returncode == 0, done.stdout
    counts = done.stdout.splitlines()[-1]
    assert "failed" not in counts
    assert int(counts.split()[0]) >= 30, counts
