"""What the HTTP plugin promises: it opens the HTTP schemes, says what is missing, and no others."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pluggy
import pytest

from loops_core.errors import UnsupportedError, UsageError
from loops_core.hooks import TransportConfig
from loops_core.plugins import Plugins
from loops_transport_http import plugin
from loops_transport_http.client.transport import HttpTransport
from loops_transport_http.wire import bodies


@pytest.fixture
def config() -> TransportConfig:
    return TransportConfig(plugins=Plugins(pluggy.PluginManager("loops")), api_key="secret-key")


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://loops.example/v1", "HTTP://x/"])
def test_http_urls_are_opened_without_a_connection(url: str, config: TransportConfig) -> None:
    transport = plugin.loops_transport(url=url, config=config)
    assert isinstance(transport, HttpTransport)
    assert "secret-key" not in repr(vars(transport))
    transport.close()
    transport.close()


@pytest.mark.parametrize("url", ["inproc:jax", "inproc:mock", "httpx:", "file:///tmp", ""])
def test_other_urls_are_left_to_other_plugins(url: str, config: TransportConfig) -> None:
    assert plugin.loops_transport(url=url, config=config) is None


@pytest.mark.parametrize("url", ["http://", "https:", "http:///path"])
def test_a_url_without_a_host_is_refused(url: str, config: TransportConfig) -> None:
    with pytest.raises(UsageError, match="names no host") as caught:
        plugin.loops_transport(url=url, config=config)
    assert caught.value.field == "base_url"


@pytest.fixture
def forgotten_zstd() -> Iterator[None]:
    """Have it found out anew, in the test and after it, whether zstandard is installed."""
    bodies.has_zstd.cache_clear()
    yield
    bodies.has_zstd.cache_clear()


@pytest.mark.usefixtures("forgotten_zstd")
@pytest.mark.parametrize(
    ("variable", "value", "module"),
    [("LOOPS_HTTP2", "1", "h2"), ("LOOPS_HTTP_COMPRESSION", "zstd", "zstandard")],
)
def test_what_the_environment_asks_for_is_named_where_it_is_missing(
    variable: str,
    value: str,
    module: str,
    config: TransportConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "yes, please")
    with pytest.raises(UsageError, match=variable):
        plugin.loops_transport(url="http://h", config=config)
    monkeypatch.setenv(variable, value)

    def find_spec(name: str) -> object:
        return None if name == module else ...

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(UnsupportedError, match=r"pip install 'loops-transport-http\["):
        plugin.loops_transport(url="http://h", config=config)


def test_the_entry_point_brings_the_transport_to_every_client() -> None:
    transport = Plugins.load().open_transport("http://localhost:8000")
    assert isinstance(transport, HttpTransport)
    transport.close()
