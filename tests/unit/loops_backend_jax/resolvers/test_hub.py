"""Names of the model hub: only `org/name`, and each failure as one of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import errors

from loops_backend_jax.resolvers.hub import WANTED_FILES, resolve_hub
from loops_core.errors import NotFoundError, UnreachableError


class Unknown(errors.RepositoryNotFoundError):
    """The library's error without the HTTP response that it otherwise takes."""

    def __init__(self, message: str) -> None:
        OSError.__init__(self, message)


GIVEN_UP = errors.LocalEntryNotFoundError("cannot find the requested files\nsecond line")


@pytest.mark.parametrize("name", ["model", "a/b/c", "/a/b", "a/", "../b", "a/b c", "org/na\nme"])
def test_another_form_of_name_is_left_to_others(name: str) -> None:
    def fetch(repository: str) -> Path:
        raise AssertionError("the hub was asked")

    assert resolve_hub(name, fetch) is None


def test_a_repository_with_safetensors_is_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert resolve_hub("org/model-1.5", lambda repository: tmp_path) == tmp_path


def test_a_repository_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(NotFoundError, match=r"holds no \*\.safetensors"):
        resolve_hub("org/model", lambda repository: tmp_path)


def test_no_code_is_ever_fetched() -> None:
    assert not any(Path("modeling.py").match(pattern) for pattern in WANTED_FILES)
    assert not any(Path("pytorch_model.bin").match(pattern) for pattern in WANTED_FILES)


@pytest.mark.parametrize(
    "failure", [GIVEN_UP, errors.OfflineModeIsEnabled("offline"), ConnectionError("refused")]
)
def test_a_hub_out_of_reach_is_an_unreachable_error(failure: Exception) -> None:
    def fetch(repository: str) -> Path:
        raise failure

    with pytest.raises(UnreachableError, match=r"'org/model' is not on this machine") as caught:
        resolve_hub("org/model", fetch)
    assert caught.value.field == "base_model"
    assert "second line" not in str(caught.value)
    assert caught.value.__cause__ is failure


def test_an_unknown_repository_is_a_not_found_error() -> None:
    def fetch(repository: str) -> Path:
        raise Unknown("404")

    with pytest.raises(NotFoundError, match="shows no such repository") as caught:
        resolve_hub("org/model", fetch)
    assert caught.value.name == "org/model"
