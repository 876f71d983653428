"""What the HTTP plugin promises: it owns the HTTP schemes, refuses them honestly, and no others."""

from __future__ import annotations

import pluggy
import pytest

from loops_core.errors import UnsupportedError
from loops_core.hooks import TransportConfig
from loops_core.plugins import Plugins
from loops_transport_http import plugin


@pytest.fixture
def config() -> TransportConfig:
    return TransportConfig(plugins=Plugins(pluggy.PluginManager("loops")))


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8000", "https://loops.example/v1", "HTTP://x", "http+unix://%2Fsocket"],
)
def test_http_urls_are_refused_with_the_missing_part_named(
    url: str, config: TransportConfig
) -> None:
    with pytest.raises(
        UnsupportedError, match="HTTP transport is not part of this version"
    ) as caught:
        plugin.loops_transport(url=url, config=config)
    assert url in str(caught.value)
    assert caught.value.field == "base_url"


@pytest.mark.parametrize("url", ["inproc:jax", "inproc:mock", "httpx:", "file:///tmp", ""])
def test_other_urls_are_left_to_other_plugins(url: str, config: TransportConfig) -> None:
    assert plugin.loops_transport(url=url, config=config) is None


def test_the_entry_point_brings_the_refusal_to_every_client() -> None:
    with pytest.raises(UnsupportedError, match="inproc:jax"):
        Plugins.load().open_transport("http://localhost:8000")
