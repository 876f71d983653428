"""Which names are directories, and what is said about those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_backend_jax.resolvers.local import resolve_local
from loops_core.errors import NotFoundError


def test_a_model_directory_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_local(str(tmp_path)) == tmp_path


def test_a_relative_name_is_found_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve_local("org/model") == tmp_path / "org" / "model"


def test_a_name_that_is_no_path_is_left_to_others() -> None:
    assert resolve_local("no-such-org/no-such-model") is None


@pytest.mark.parametrize("base_model", ["./missing", "/missing/model", "~/missing-model", ".."])
def test_a_missing_path_is_an_error_that_names_it(base_model: str) -> None:
    with pytest.raises(NotFoundError, match="expected a Hugging Face model directory") as caught:
        resolve_local(base_model)
    assert (caught.value.field, caught.value.name) == ("base_model", base_model)


def test_a_directory_without_a_model_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no config\.json"):
        resolve_local(str(tmp_path))
