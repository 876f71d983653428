"""Signed links to checkpoint files: they need no key, expire, and answer ranges."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, final
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from loops_core.errors import NotFoundError, UsageError
from loops_core.types.checkpoint import CheckpointFile, CheckpointFilesResponse
from loops_transport_http.server.keys import write_secret
from loops_transport_http.server.refusals import Refused

_SECRET_FILE: Final = "links.secret"
_SALT: Final = "checkpoint-file"


_RANGE: Final = re.compile(rb"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})")
_DAMAGED: Final = "the link is damaged: ask for a new one"
_OVER: Final = "the link's time is over: ask for a new one"


@final
class FileLinks:
    """Makes links to local files, and answers them.

    A link holds the file's path, signed: nobody can ask for a file that was not given out. The
    files themselves were listed by the checkpoint store, so none lies outside of it.
    """

    def __init__(self, secret: bytes, *, root: Path, kept_s: int) -> None:
        """Sign with `secret`; files lie below `root`, links are valid for `kept_s` seconds."""
        self._signer = URLSafeTimedSerializer(secret, salt=_SALT)
        self._root = root
        self._kept_s = kept_s

    @classmethod
    def open(cls, directory: Path, *, root: Path, kept_s: int) -> FileLinks:
        """Return links signed with the directory's secret, which is made if missing."""
        path = directory / _SECRET_FILE
        if not path.exists():
            write_secret(path, secrets.token_bytes(32))
        return cls(path.read_bytes(), root=root, kept_s=kept_s)

    def sign(self, page: CheckpointFilesResponse, root_url: str) -> CheckpointFilesResponse:
        """Return the page with links that can be read over HTTP instead of `file:` ones."""
        files = [self._sign(file, root_url) for file in page.presigned_urls]
        return page.model_copy(update={"presigned_urls": files})

    def token_of(self, name: str) -> str:
        """Return the signed form of a file's name below the store's folder."""
        return str(self._signer.dumps(name))

    def answer(self, token: str) -> Response:
        """Return the file that a link's token means; ranges are answered.

        Raises:
            Refused: (403) the link is damaged, or its time is over.
            NotFoundError: the file is gone.
        """
        try:
            name = str(self._signer.loads(unquote(token), max_age=self._kept_s))
        except SignatureExpired as error:
            raise Refused(HTTPStatus.FORBIDDEN, UsageError(_OVER, field="token")) from error
        except BadSignature as error:
            raise Refused(HTTPStatus.FORBIDDEN, UsageError(_DAMAGED, field="token")) from error
        path = self._root.resolve() / name
        if path != path.resolve() or not path.is_file():  # no way leads out, a symlink neither
            raise NotFoundError("the checkpoint's file is gone", kind="file")
        return _RangesResponse(path, media_type="application/octet-stream")

    def _sign(self, file: CheckpointFile, root_url: str) -> CheckpointFile:
        parts = urlsplit(file.url)
        if parts.scheme != "file":
            return file
        path = Path(url2pathname(parts.path))
        token = self.token_of(path.relative_to(self._root).as_posix())
        leaf = quote(path.name, safe="")
        return file.model_copy(update={"url": f"{root_url}/files/{token}/{leaf}"})


@final
class _RangesResponse(FileResponse):
    """A file whose ranges are answered; a Range header that is none counts as absent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if name != b"range" or _RANGE.fullmatch(value)
        ]
        await super().__call__({**scope, "headers": kept}, receive, send)


SignPage = Callable[[CheckpointFilesResponse, str], CheckpointFilesResponse]
