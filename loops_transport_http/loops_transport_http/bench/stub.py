"""A server that answers at once, with bytes made before: what is left is what a client costs.

    python -m loops_transport_http.bench.stub [--features "tensors/1 poll/1"]

It speaks as much of the protocol as a training client needs. Every operation has ended when it is
submitted; bodies of submits are read, and not looked at. The size of the results is part of the
base model's name: `stub-32x1024` answers with 32 data of 1,024 positions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final, final

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from loops_core.types.base import WireModel
from loops_core.types.frames import pack
from loops_core.types.operation import OperationKind, OperationStatus, PollReply
from loops_core.types.training import InitTrainerServerResponse, OptimStepResponse
from loops_transport_http.bench.workload import TINY, BatchSize, make_output
from loops_transport_http.wire import names

if TYPE_CHECKING:
    from starlette.requests import Request

MODEL_PREFIX: Final = "stub-"
RANK: Final = 16
_NO_ID: Final = "00000000"


@final
class Answers:
    """The answers to polls for results of one size, ready to be sent."""

    def __init__(self, size: BatchSize) -> None:
        """Make them."""
        output = make_output(size)
        results: dict[OperationKind, WireModel] = {
            OperationKind.INIT_TRAINER_SERVER: InitTrainerServerResponse(lora_rank=RANK),
            OperationKind.FORWARD: output,
            OperationKind.FORWARD_BACKWARD: output,
            OperationKind.OPTIM_STEP: OptimStepResponse(metrics={"step": 1.0}),
        }
        self._statuses = {
            kind.value: OperationStatus(status="done", operation=kind, result=result)
            for kind, result in results.items()
        }
        self._retrieved = {
            (name, packed): pack(status) if packed else _to_json(status)
            for name, status in self._statuses.items()
            for packed in (False, True)
        }
        self._polled = {
            (name, packed): self._write_polled([f"{name}-{_NO_ID}"], packed=packed)
            for name in self._statuses
            for packed in (False, True)
        }

    def retrieved(self, operation_id: str, *, packed: bool) -> bytes:
        """Return the answer to the poll of an operation."""
        return self._retrieved[operation_id.rpartition("-")[0], packed]

    def polled(self, ids: list[str], *, packed: bool) -> bytes:
        """Return the answer to a shared poll; that for a single operation was made before."""
        if len(ids) > 1:
            return self._write_polled(ids, packed=packed)
        name, _, number = ids[0].rpartition("-")
        return self._polled[name, packed].replace(
            f"{name}-{_NO_ID}".encode(), f"{name}-{number}".encode(), 1
        )

    def _write_polled(self, ids: list[str], *, packed: bool) -> bytes:
        reply = PollReply(operations={i: self._statuses[i.rpartition("-")[0]] for i in ids})
        return pack(reply) if packed else _to_json(reply)


@final
class Stub:
    """The handlers of the stub's routes."""

    def __init__(self, *, root: str, features: str | None) -> None:
        """Say where it listens and what it advertises."""
        self._root = root
        self._headers = {} if features is None else {names.FEATURES: features}
        self._numbers = itertools.count()
        self._answers: dict[str, Answers] = {}

    def app(self) -> Starlette:
        """Return the application."""
        trainer = "/trainers/{run_id}"
        return Starlette(
            routes=[
                Route("/v1/loops/sessions", self._session, methods=["POST"]),
                Route("/v1/loops/trainers", self._trainer, methods=["POST"]),
                Route(f"{trainer}/health", self._health),
                Route(f"{trainer}/operations/poll", self._poll, methods=["POST"]),
                Route(f"{trainer}/operations/{{operation_id}}", self._retrieve),
                Route(f"{trainer}/{{operation}}", self._submit, methods=["POST"]),
            ]
        )

    async def _session(self, _: Request) -> Response:
        return self._json(b'{"session":{"id":"session-1"}}')

    async def _trainer(self, request: Request) -> Response:
        model = str((await request.json())["base_model"])
        run_id = f"run-{model.removeprefix(MODEL_PREFIX)}"
        run = {
            "id": run_id,
            "session_id": "session-1",
            "base_model": model,
            "base_url": f"{self._root}/trainers/{run_id}",
            "deployment_id": "stub",
        }
        return self._json(json.dumps({"run": run}).encode())

    async def _health(self, _: Request) -> Response:
        return self._json(b"{}")

    async def _submit(self, request: Request) -> Response:
        await request.body()
        name = request.path_params["operation"]
        number = f"{next(self._numbers):0{len(_NO_ID)}d}"
        return self._json(b'{"operation_id":"%b-%b"}' % (name.encode(), number.encode()))

    async def _retrieve(self, request: Request) -> Response:
        packed = self._is_packed(request)
        operation_id = request.path_params["operation_id"]
        content = self._answers_for(request).retrieved(operation_id, packed=packed)
        return self._tensors(content) if packed else self._json(content)

    async def _poll(self, request: Request) -> Response:
        ids = json.loads(await request.body())["operation_ids"]
        packed = self._is_packed(request)
        content = self._answers_for(request).polled(ids, packed=packed)
        return self._tensors(content) if packed else self._json(content)

    def _is_packed(self, request: Request) -> bool:
        return bool(self._headers) and names.TENSORS in request.headers.get("accept", "")

    def _answers_for(self, request: Request) -> Answers:
        run_id = request.path_params["run_id"]
        if run_id not in self._answers:
            self._answers[run_id] = Answers(BatchSize.parse(run_id.removeprefix("run-")))
        return self._answers[run_id]

    def _json(self, content: bytes) -> Response:
        return Response(content, media_type=names.JSON, headers=self._headers)

    def _tensors(self, content: bytes) -> Response:
        return Response(content, media_type=names.TENSORS, headers=self._headers)


def model_name(size: BatchSize = TINY) -> str:
    """Return the base model that the stub answers for with results of a size."""
    return f"{MODEL_PREFIX}{size}"


def trainer_url(root: str, size: BatchSize = TINY) -> str:
    """Return where the stub's trainer with results of a size answers."""
    return f"{root}/trainers/run-{size}"


def end_with_stdin(server: uvicorn.Server) -> None:
    """End a server when whoever started this process is gone."""

    def watch() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()


def _to_json(value: WireModel) -> bytes:
    return value.model_dump_json(by_alias=True).encode()


def main() -> None:
    """Serve on a free port of the loopback interface until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", default=None, help="what X-Loops-Features says")
    given = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = Stub(root=root, features=given.features).app()
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    end_with_stdin(server)
    sys.stdout.write(json.dumps({"url": root}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
