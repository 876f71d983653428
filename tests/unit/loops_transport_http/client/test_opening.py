"""From a URL to a transport, or a refusal that names what is wrong."""

from __future__ import annotations

import pytest

from loops_core.errors import UsageError
from loops_transport_http.client.opening import open_transport


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="api_key") as raised:
        open_transport("http://user:hunter2@h:1", api_key=None)
    assert "hunter2" not in str(raised.value)
