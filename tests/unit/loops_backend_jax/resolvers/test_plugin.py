"""The installed plugin answers to its names and to directories, after the plugins of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_core.errors import NotFoundError
from loops_core.hooks import hookimpl
from loops_core.plugins import Plugins


class ElsewhereResolver:
    """A plugin of somebody else that resolves one name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @hookimpl
    def loops_resolve_model(self, base_model: str) -> Path | None:
        return self._directory if base_model == "./mine" else None


def test_every_listed_name_that_needs_no_network_resolves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_CACHE_DIR", str(tmp_path))
    plugins = Plugins.load()
    assert {"loops-tiny", "smollm2"} <= set(plugins.model_names())
    assert (plugins.resolve_model("loops-tiny") / "model.safetensors").is_file()


def test_a_plugin_of_somebody_else_comes_first(tmp_path: Path) -> None:
    plugins = Plugins.load(extra=[ElsewhereResolver(tmp_path)])
    assert plugins.resolve_model("./mine") == tmp_path


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match=r"such as .*loops-tiny.*smollm2"):
        Plugins.load().resolve_model("loops-tony")
