"""Writing replies: addresses made absolute, statuses, headers, JSON or packed bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from loops_core.errors import LoopsError
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import (
    Deployment,
    DeploymentListing,
    DeploymentReply,
    Run,
    RunListing,
    RunReply,
    SamplerListing,
    SamplerRecord,
    SamplerReply,
)
from loops_core.types.operation import Accepted, OperationStatus, PollReply
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions
from loops_core.types.training import ForwardBackwardOutput
from loops_transport_http.server.files import SignPage
from loops_transport_http.server.refusals import Refused
from loops_transport_http.wire import bodies, errors, names

_PACKED: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})
"""Routes whose replies hold tensors."""


_SMALL_NUMBERS: Final = 4096
"""Up to this many numbers a reply is written in less time than a thread costs."""

_THREADS: Final = 2
_LEAST_COMPRESSED: Final = 16 * 1024


@final
class ReplyWriter:
    """Writes replies as responses; large ones on threads of its own."""

    def __init__(self) -> None:
        """Start without threads."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="loops-reply")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def write(self, call: Call[Any], reply: WireModel, request: Request) -> Response:
        """Return the response to a call that was answered."""
        if isinstance(reply, OperationStatus) and reply.status == "pending":
            return Response(status_code=HTTPStatus.REQUEST_TIMEOUT)
        headers = _headers(reply, request)
        media_type = _media_type(call, request)
        is_zstd = bodies.ZSTD in request.headers.get("accept-encoding", "") and bodies.has_zstd()
        if _num_numbers(reply) <= _SMALL_NUMBERS:
            content = bodies.encode(reply, media_type=media_type)
        else:
            loop = asyncio.get_running_loop()
            content, encoding = await loop.run_in_executor(
                self._threads, _encode, reply, media_type, is_zstd
            )
            headers |= encoding
        is_submit = isinstance(reply, Accepted)
        status = HTTPStatus.ACCEPTED if is_submit else HTTPStatus.OK
        return Response(content, status, headers, media_type)


def _encode(reply: WireModel, media_type: str, is_zstd: bool) -> tuple[bytes, dict[str, str]]:  # noqa: FBT001
    content = bodies.encode(reply, media_type=media_type)
    if is_zstd and len(content) >= _LEAST_COMPRESSED:
        return bodies.compress(content), {"Content-Encoding": bodies.ZSTD}
    return content, {}


def _headers(reply: WireModel, request: Request) -> dict[str, str]:
    if isinstance(reply, Accepted):
        raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        trainer = raw_path.decode("ascii").rpartition("/")[0]
        return {"Location": f"{trainer}/operations/{quote(reply.operation_id, safe='')}"}
    if isinstance(reply, Completions) and reply.policy_version is not None:
        return {names.POLICY_VERSION: str(reply.policy_version)}
    return {}


def _media_type(call: Call[Any], request: Request) -> str:
    is_asked = names.TENSORS in request.headers.get("accept", "")
    return names.TENSORS if is_asked and call.route.name in _PACKED else names.JSON


def _num_numbers(reply: WireModel) -> int:
    """Return about how many numbers a reply holds, quickly."""
    match reply:
        case OperationStatus(result=ForwardBackwardOutput() as output):
            rows = output.loss_fn_outputs
            return sum(tensor.data.size for row in rows for tensor in row.values())
        case PollReply(operations=ended):
            return sum(_num_numbers(status) for status in ended.values())
        case Completions(choices=choices):
            return sum(
                len(choice.token_ids or ()) + 4 * len(choice.prompt_logprobs or ())
                for choice in choices
            )
        case _:
            return 0


def write_refusal(refusal: LoopsError | Refused) -> Response:
    """Return the response to a call that was refused."""
    if isinstance(refusal, Refused):
        return Response(*refusal.response())
    status, headers, content = errors.write_error(refusal)
    return Response(content, status, headers)


def with_addresses(reply: WireModel, root_of: Callable[[], str], sign: SignPage) -> WireModel:
    """Return the reply with addresses that can be reached from outside."""
    match reply:
        case RunReply(run=run):
            return RunReply(run=_run(run, root_of()))
        case RunListing(runs=runs):
            return RunListing(runs=[_run(run, root_of()) for run in runs])
        case SamplerReply(sampler=sampler):
            return SamplerReply(sampler=_sampler(sampler, root_of()))
        case SamplerListing(samplers=samplers):
            return SamplerListing(samplers=[_sampler(each, root_of()) for each in samplers])
        case DeploymentReply(deployment=deployment):
            return DeploymentReply(deployment=_deployment(deployment, root_of()))
        case DeploymentListing(deployments=found):
            return DeploymentListing(deployments=[_deployment(each, root_of()) for each in found])
        case CheckpointFilesResponse():
            return sign(reply, root_of())
        case _:
            return reply


def _run(run: Run, root_url: str) -> Run:
    return run.model_copy(update={"base_url": f"{root_url}{run.base_url}"})


def _sampler(sampler: SamplerRecord, root_url: str) -> SamplerRecord:
    return sampler.model_copy(update={"base_url": f"{root_url}{sampler.base_url}"})


def _deployment(deployment: Deployment, root_url: str) -> Deployment:
    return deployment.model_copy(update={"base_url": f"{root_url}{deployment.base_url}"})
