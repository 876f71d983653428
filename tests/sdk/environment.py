"""An environment with the published SDK, made once and kept; unlike ours it needs Python 3.12."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Final

SDK: Final = "baseten-loops==0.32.0"
_NAME: Final = "sdk-0.32.0-py3.12"
_TORCH: Final = "torch==2.13.0+cpu"
"""A build for the CPU; the one that an index serves may weigh gigabytes and is not asked for."""

_INSTALL_TIMEOUT_S: Final = 900
_PROBE: Final = "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 12))"


class MissingError(Exception):
    """What the SDK needs is not to be had here; the text says what."""


def sdk_python(cache: Path) -> Path:
    """Return the interpreter of an environment with the SDK, kept below `cache`.

    Raises:
        MissingError: there is no Python 3.12, or the SDK cannot be installed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    return _interpreter(made_once(cache / _NAME, _make_environment))


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, made whole by the first process that asks; others wait for it."""
    with _locked(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as scratch:
                unfinished = Path(scratch) / path.name
                make(unfinished)
                unfinished.rename(path)
    return path


def clean_environ() -> dict[str, str]:
    """Return this process's variables without those that change how another Python starts."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name in ("NO_PROXY", "no_proxy"):
        given = variables.get(name)
        variables[name] = "127.0.0.1,localhost" + (f",{given}" if given else "")
    return variables


def _make_environment(folder: Path) -> None:
    python = _find_python()
    _run(str(python), "-m", "venv", str(folder))
    _install(folder, SDK)
    with contextlib.suppress(MissingError):  # the program then brings a stand-in, and says so
        _install(folder, _TORCH)


def _install(folder: Path, requirement: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")
    _run(str(_interpreter(folder)), "-m", "pip", "install", *quiet, requirement)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=clean_environ(),
            timeout=_INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{' '.join(command[1:])} took over {error.timeout} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise MissingError(f"{' '.join(command[1:])} failed: {''.join(last)}")


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _find_python() -> Path:
    for candidate in _candidates():
        try:
            done = subprocess.run(
                [candidate, "-c", _PROBE],
                capture_output=True,
                check=False,
                env=clean_environ(),
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return Path(candidate)
    raise MissingError(
        f"{SDK} needs Python 3.12, and none was found: put python3.12 on the PATH, or install one "
        "with pyenv or uv"
    )


def _candidates() -> Iterator[str]:
    """Yield what may be a Python 3.12; a shim on the PATH may turn out to lead nowhere."""
    yield sys.executable
    on_path = shutil.which("python3.12")
    if on_path is not None:
        yield on_path
    roots = [os.environ.get("PYENV_ROOT"), _told_by("pyenv", "root"), str(Path.home() / ".pyenv")]
    for root in roots:
        if root:
            for found in sorted(Path(root).glob("versions/3.12*/bin/python"), reverse=True):
                yield str(found)
    found_by_uv = _told_by("uv", "python", "find", "--no-project", "3.12")
    if found_by_uv:
        yield found_by_uv
    yield "/usr/bin/python3.12"


def _told_by(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Let one process in at a time; where locks are not offered, the rename alone must do."""
    with path.open("a") as file:
        _lock(file)
        yield


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)
