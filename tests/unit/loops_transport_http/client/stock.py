"""A trainer and a sampler as the published protocol says, with nothing of ours, on a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class StockPair:
    """Answers every operation at once; keeps what it was sent.

    Attributes:
        url: where both are: `/trainer` and `/sampler`.
        requests: method and path, headers and JSON body of each request.
        features: what each answer says of features, which is nothing of a stock pair.
    """

    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(
        default_factory=list[tuple[str, dict[str, str], Any]]
    )
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    version: int = 0
    features: str | None = None

    @property
    def addresses(self) -> tuple[str, str]:
        return f"{self.url}/trainer", f"{self.url}/sampler"

    def sent(self, path: str) -> list[tuple[dict[str, str], Any]]:
        return [(headers, body) for seen, headers, body in self.requests if seen == path]

    async def answer(self, request: Request) -> Response:
        response = await self._answer(request)
        if self.features is not None:
            response.headers["X-Loops-Features"] = self.features
        return response

    async def _answer(self, request: Request) -> Response:
        content = await request.body()
        body = await request.json() if content else None
        path = f"{request.method} {request.url.path}"
        self.requests.append((path, dict(request.headers), body))
        name = request.url.path.rpartition("/")[2]
        match path.split("/")[0:3]:
            case ["GET ", "trainer", "operations"]:
                return JSONResponse({"status": "done", "result": self.results[name]})
            case ["GET ", _, "health"]:
                return Response()
            case ["GET ", _, "policy_version" | "trainers_policy_version"]:
                return JSONResponse({"policy_version": self.version})
            case ["GET ", "sampler", "v1"]:
                return JSONResponse({"data": [{"id": "stock-model", "parent": None}]})
            case ["POST ", "trainer", _]:
                return self._accept(name, body, request.headers["idempotency-key"])
            case ["POST ", "sampler", "sample"]:
                return self._sample()
            case _:
                return JSONResponse({"detail": f"no {path}"}, status_code=404)

    def _accept(self, name: str, body: Any, key: str) -> Response:
        if name == "save_weights_for_sampler":
            self.version += 1
        path = f"bt://loops:elsewhere/weights/{body.get('name')}"
        self.results[key] = {
            "init_trainer_server": {"step": 0, "lora_rank": body.get("lora_rank")},
            "save_weights_for_sampler": {"version": self.version, "path": path},
            "save_state": {"mode": "trainer", "path": path},
            "load_state": {"step": 3},
        }[name]
        return JSONResponse({"operation_id": key, "schema_version": 1}, status_code=202)

    def _sample(self) -> Response:
        logprobs = {"tokens": ["token_id:7"], "token_logprobs": [-0.5]}
        choice = {"index": 0, "text": None, "finish_reason": "length", "logprobs": logprobs}
        headers = {"x-trainers-policy-version": str(self.version)}
        return JSONResponse({"choices": [choice]}, headers=headers)


@contextmanager
def open_pair() -> Generator[StockPair]:
    """Serve a pair while the block runs."""
    pair = StockPair()
    app = Starlette(routes=[Route("/{path:path}", pair.answer, methods=["GET", "POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pair.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="error", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield pair
        finally:
            server.should_exit = True
            thread.join()
