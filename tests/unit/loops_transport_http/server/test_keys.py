"""Keys: in every form that clients send, hashed, and none in what is written down."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from loops_core.errors import UsageError
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.refusals import Refused


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "header",
    ["Api-Key k-1", "Bearer k-1", "bearer  k-1 ", basic("anybody:k-1"), basic(":k-1")],
)
def test_a_key_is_known_in_every_form(header: str) -> None:
    assert KeyRing.of_keys(["k-1"]).owner_of(header) == "local"


@pytest.mark.parametrize(
    "header", [None, "", "k-1", "Bearer k-2", "Bearer", basic("k-1:"), "Basic"]
)
def test_anything_else_is_401_and_is_not_repeated(header: str | None) -> None:
    with pytest.raises(Refused) as caught:
        KeyRing.of_keys(["k-1"]).owner_of(header)
    assert caught.value.status == 401
    assert "k-" not in str(caught.value.error)


def test_every_key_has_its_owner() -> None:
    ring = KeyRing.of_keys(["alice=a", "bob=b", "alice=c", "plain", "cGFkZGVk=="])
    owners = [ring.owner_of(f"Bearer {key}") for key in ("a", "b", "c", "plain", "cGFkZGVk==")]
    assert owners == ["alice", "bob", "alice", "local", "local"]


@pytest.mark.parametrize("text", ["", "has blank", "ümlaut", "a b=key", "al/ice=key"])
def test_what_can_be_no_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="api_key"):
        KeyRing.of_keys([text])


def test_a_made_key_is_long_random_and_kept_as_a_hash(tmp_path: Path) -> None:
    ring, key = KeyRing.of_directory(tmp_path)
    assert key is not None
    assert len(key) >= 40
    assert ring.owner_of(f"Bearer {key}") == "local"
    again, nothing = KeyRing.of_directory(tmp_path)
    assert nothing is None
    assert again.owner_of(f"Bearer {key}") == "local"
    (kept,) = tmp_path.iterdir()
    assert key not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_open_ring_asks_for_no_key() -> None:
    assert KeyRing.open_to_all().owner_of(None) == "local"
