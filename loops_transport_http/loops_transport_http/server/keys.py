"""Keys: who may call, and as whom; kept as hashes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self, final

from loops_core.errors import UsageError
from loops_core.worker.records import LOCAL_OWNER
from loops_transport_http.server.refusals import Refused

OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_FILE: Final = "keys.json"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Known:
    owner: str
    digest: bytes


@final
class KeyRing:
    """The keys of a server; None of them is kept in readable form.

    A salted SHA-256 is enough: only a key that was made here is written down, and that has 256
    random bits; a slow hash would be paid at every request. Keys are compared in constant time,
    and always all of them.
    """

    def __init__(self, *, salt: bytes, known: Sequence[_Known] = (), is_open: bool = False) -> None:
        """Keep hashed keys; use `of_keys`, `of_directory` or `open_to_all`."""
        self._salt = salt
        self._known = list(known)
        self._is_open = is_open

    @classmethod
    def open_to_all(cls) -> Self:
        """Return a ring that asks for no key: everybody is the one owner."""
        return cls(salt=b"", is_open=True)

    @classmethod
    def of_keys(cls, given: Sequence[str]) -> Self:
        """Return a ring of keys as the command line has them, `KEY` or `OWNER=KEY`.

        Raises:
            UsageError: a key is empty, has blanks, or its owner cannot be one.
        """
        salt = secrets.token_bytes(16)
        return cls(salt=salt, known=[_parse(text, salt) for text in given])

    @classmethod
    def of_directory(cls, directory: Path) -> tuple[Self, str | None]:
        """Return the ring of a data directory, and its key where it has just been made."""
        path = directory / _FILE
        if path.exists():
            kept = json.loads(path.read_text())
            known = [
                _Known(entry["owner"], bytes.fromhex(entry["digest"])) for entry in kept["keys"]
            ]
            return cls(salt=bytes.fromhex(kept["salt"]), known=known), None
        salt, key = secrets.token_bytes(16), secrets.token_urlsafe(_KEY_BYTES)
        entry = {"owner": LOCAL_OWNER, "digest": _digest(salt, key).hex()}
        text = json.dumps({"salt": salt.hex(), "keys": [entry]})
        write_secret(path, text.encode())
        return cls(salt=salt, known=[_Known(LOCAL_OWNER, _digest(salt, key))]), key

    @property
    def is_open(self) -> bool:
        """Tell whether no key is asked for."""
        return self._is_open

    def owner_of(self, authorization: str | None) -> str:
        """Return whose key an Authorization header holds.

        Raises:
            Refused: (401) it holds none that is known.
        """
        if self._is_open:
            return LOCAL_OWNER
        key = _key_in(authorization or "")
        digest = _digest(self._salt, key)
        owner: str | None = None
        for known in self._known:
            if hmac.compare_digest(known.digest, digest):
                owner = known.owner
        if owner is None or not key:
            error = UsageError(
                "no key, or one that is not known here: expected the header "
                "'Authorization: Api-Key KEY' or 'Bearer KEY'",
                field="api_key",
                hint="pass api_key, or set LOOPS_API_KEY",
            )
            raise Refused(HTTPStatus.UNAUTHORIZED, error)
        return owner


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _parse(text: str, salt: bytes) -> _Known:
    owner, equals, key = text.partition("=")
    if not equals or not key.strip("="):  # the padding of a key in base64 is no owner's
        owner, key = LOCAL_OWNER, text
    if not OWNER.fullmatch(owner):
        raise UsageError(
            "api_key names an owner that cannot be one: expected OWNER=KEY, the owner 1 to 40 "
            "letters, digits, '_' or '-'",
            field="api_key",
        )
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            "api_key must be printable ASCII without blanks, and not empty", field="api_key"
        )
    return _Known(owner, _digest(salt, key))


def _digest(salt: bytes, key: str) -> bytes:
    return hashlib.sha256(salt + key.encode("utf-8", "surrogateescape")).digest()


def _key_in(authorization: str) -> str:
    """Return the key of an Authorization header; '' where there is none.

    HTTP clients turn the `user:password` of a URL into `Basic`: the password is the key.
    """
    scheme, _, value = authorization.strip().partition(" ")
    match scheme.lower():
        case "api-key" | "bearer":
            return value.strip()
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        case _:
            return ""
