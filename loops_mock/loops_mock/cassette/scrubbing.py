"""What is taken out of every text before it is written: keys, signatures, passwords."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from typing import Final, final
from urllib.parse import quote, unquote

SCRUBBED: Final = "(scrubbed)"

_WORDS: Final = "key|token|secret|signature|sig|credential|password|passwd|passphrase|auth"
_SECRET_NAME: Final = re.compile(
    rf"(?:^|[_.-])(?:x-?)?(?:api|access)?(?:{_WORDS})s?(?:$|[_.-])", re.IGNORECASE
)
"""A name whose value is a secret, such as `X-Amz-Signature` or `LOOPS_API_KEY`."""

_NOT_SECRET: Final = frozenset({"page_token", "next_page_token"})
_SHORTEST: Final = 8
"""A shorter text from the environment is not looked for: it may stand anywhere by chance."""

_URL: Final = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*:(?://)?[^\s\"'<>\\]*")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#]*@")
_SIGNED: Final = re.compile(
    r"(?<=/)([A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{16,}(?![^/?#])"
)
"""A part of a path that is signed: what it says, when, and the signature."""

_QUERY_FIELD: Final = re.compile(r"(?<=[?&;])([^=&;#]+)=([^&;#]*)")
_SCHEMES: Final = ("bearer", "api-key", "basic")
_SCHEME: Final = re.compile(
    rf"\b({'|'.join(_SCHEMES)})(\s+)(?=[^\s\"']*\d)[A-Za-z0-9._~+/=-]{{12,}}", re.IGNORECASE
)
_HEADERS: Final = ("authorization", "x-api-key")
_HEADER: Final = re.compile(
    rf"\b({'|'.join(_HEADERS)})(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:[A-Za-z-]+ +)?[^\s\"'\\,;]{{4,}}",
    re.IGNORECASE,
)


@final
class Scrubber:
    """Replaces secrets in texts: the ones it was told of, and whatever looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know the given secrets and those of the environment."""
        self._known: list[str] = []
        for name, value in os.environ.items():
            is_place = value.startswith(("/", "~", ".")) or "://" in value
            if is_secret_name(name) and len(value) >= _SHORTEST and not is_place:
                self.add(value)
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str | None) -> None:
        """Know one more secret, such as the key that a client was opened with."""
        if secret and secret not in self._known:
            known = _spellings(secret).union(self._known)
            self._known = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return the text without secrets; a scrubbed text stays as it is."""
        for secret in self._known:  # a search is quicker than a pattern, and hardly ever finds one
            if secret in text:
                text = text.replace(secret, SCRUBBED)
        if "@" in text or "=" in text or "://" in text:
            text = _URL.sub(_clean_url, text)
        lowered = text.lower()
        if any(word in lowered for word in _SCHEMES):
            text = _SCHEME.sub(rf"\1\2{SCRUBBED}", text)
        if any(word in lowered for word in _HEADERS):
            text = _HEADER.sub(rf"\1\2{SCRUBBED}", text)
        return text


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name holds a secret.

    >>> is_secret_name("X-Amz-Signature"), is_secret_name("page_token"), is_secret_name("monkey")
    (True, False, False)
    """
    return name.lower() not in _NOT_SECRET and _SECRET_NAME.search(name) is not None


def _clean_url(match: re.Match[str]) -> str:
    plain = _SIGNED.sub(rf"\1.{SCRUBBED}", _USER_INFO.sub("", match[0]))
    return _QUERY_FIELD.sub(_without_secret, plain)


def _without_secret(match: re.Match[str]) -> str:
    return f"{match[1]}={SCRUBBED}" if is_secret_name(unquote(match[1])) else match[0]


def _spellings(secret: str) -> set[str]:
    """Return how a secret may stand in a text: as it is, in JSON, in a URL, and as base64."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), encoded, json.dumps(secret)[1:-1]}
