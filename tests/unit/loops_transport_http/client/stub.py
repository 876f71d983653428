"""A server on a socket that answers as a test says, and keeps what it was sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    peer: tuple[str, int]


Answer = Callable[[Seen], Response]


@final
@dataclass
class Stub:
    """Answers each request with what `answer` makes of it; the first `script` ones in turn."""

    answer: Answer
    url: str = ""
    script: list[Response] = field(default_factory=list[Response])
    seen: list[Seen] = field(default_factory=list[Seen])

    async def respond(self, request: Request) -> Response:
        raw: bytes = request.scope["raw_path"]
        client = request.client or ("", 0)
        headers, content = dict(request.headers), await request.body()
        seen = Seen(request.method, raw.decode(), headers, content, (client[0], client[1]))
        self.seen.append(seen)
        return self.script.pop(0) if self.script else self.answer(seen)


def json(text: str, status: int = 200, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(text, status, names, "application/json")


@contextmanager
def serving(answer: Answer) -> Generator[Stub]:
    """Serve on loopback while the block runs."""
    stub = Stub(answer)
    route = Route("/{path:path}", stub.respond, methods=["GET", "POST"])
    config = uvicorn.Config(
        Starlette(routes=[route]), log_config=None, lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stub.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield stub
        finally:
            server.should_exit = True
            thread.join()
