"""Base models on the Hugging Face hub, fetched into that library's own cache."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loops_core.errors import NotFoundError, UnreachableError

WANTED_FILES: Final = ("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.txt", "*.model")
"""Data only: configuration, weights and tokenizer, never code and never pickles."""

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)

Fetch = Callable[[str], Path]
"""Returns the local directory of a repository; raises what huggingface_hub raises."""


def resolve_hub(base_model: str, fetch: Fetch | None = None) -> Path | None:
    """Return the local copy of the repository `org/name`; None where the name has another form.

    Args:
        base_model: the name.
        fetch: what brings the files; `fetch_snapshot` if not given.

    Raises:
        NotFoundError: the hub has no such repository, or shows it to others only, or it holds no
            safetensors.
        UnreachableError: the hub could not be asked and no earlier copy is on this machine.
    """
    if not is_repository_name(base_model):
        return None
    from huggingface_hub import errors

    try:
        directory = (fetch or fetch_snapshot)(base_model)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _not_found(
            base_model,
            "is not a local directory, and the model hub shows no such repository; check the name,"
            " and log in to the hub (`hf auth login`) if it is gated or private",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise UnreachableError(
            f"base_model {base_model!r} is not on this machine, and the model hub cannot be asked"
            f" for it: {_first_line(error)}; connect to the network, or give a local directory",
            field="base_model",
        ) from error
    if not any(directory.glob("*.safetensors")):
        raise _not_found(
            base_model, "holds no *.safetensors; choose a repository with weights in that format"
        )
    return directory


def is_repository_name(base_model: str) -> bool:
    """Tell whether a name has the form `org/name`.

    >>> is_repository_name("org/model-1.5"), is_repository_name("a/b/c"), is_repository_name("x")
    (True, False, False)
    """
    return _REPOSITORY.fullmatch(base_model) is not None


def fetch_snapshot(repository: str) -> Path:
    """Return a local directory with the repository's data files, fetched where they are not yet."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=list(WANTED_FILES)))


def _not_found(base_model: str, why: str) -> NotFoundError:
    return NotFoundError(
        f"base_model {base_model!r} {why}", kind="model", name=base_model, field="base_model"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
