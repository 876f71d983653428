"""Base models that are directories on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from loops_core.errors import NotFoundError


def resolve_local(base_model: str) -> Path | None:
    """Return the directory that `base_model` names, or None where it does not name a path.

    Raises:
        NotFoundError: it can only be a path (`./x`, `/x`, `~/x`) and there is no model directory.
    """
    path = Path(base_model).expanduser()
    if (path / "config.json").is_file():
        return path.absolute()
    if not looks_like_path(base_model) and not path.is_dir():
        return None
    found = "has no config.json" if path.is_dir() else "is not a directory"
    raise NotFoundError(
        f"base_model {base_model!r} {found}; expected a Hugging Face model directory with"
        " config.json and *.safetensors; check the path",
        kind="model",
        name=base_model,
        field="base_model",
    )


def looks_like_path(base_model: str) -> bool:
    """Tell whether a name can only be meant as a path.

    >>> looks_like_path("./model"), looks_like_path("org/model")
    (True, False)
    """
    separators = ("/",) if os.altsep is None and os.sep == "/" else (os.sep, "/")
    starts = (*separators, "~", *(f"{dots}{sep}" for dots in (".", "..") for sep in separators))
    return (
        base_model in (".", "..") or base_model.startswith(starts) or Path(base_model).is_absolute()
    )
