"""A second run replaces the first one's files and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_core.errors import UsageError
from loops_core.quickstart.output import prepare_output


def test_an_earlier_adapter_is_removed_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "notes.txt").touch()
    files = prepare_output(tmp_path)
    assert not files.adapter.exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_folder_that_is_no_adapter_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "precious").touch()
    with pytest.raises(UsageError, match="holds no adapter") as caught:
        prepare_output(tmp_path)
    assert caught.value.field == "output"
    assert (tmp_path / "adapter" / "precious").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        prepare_output(tmp_path / "out")


def test_the_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    files = prepare_output(tmp_path / "a" / "b")
    assert files.metrics.parent.is_dir()
