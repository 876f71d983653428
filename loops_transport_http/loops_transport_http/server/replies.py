"""Writing replies: addresses made absolute, statuses, headers, JSON or packed bodies."""

from __future__ import annotations

from typing import Any, Final

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
from loops_core.types.operation import Accepted, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions
from loops_transport_http.server.files import SignPage
from loops_transport_http.server.refusals import Refused
from loops_transport_http.wire import bodies, errors, names

_PACKED: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})
"""Routes whose replies hold tensors."""


def write_reply(call: Call[Any], reply: WireModel, request: Request) -> Response:
    """Return the response to a call that was answered."""
    if isinstance(reply, OperationStatus) and reply.status == "pending":
        return Response(status_code=408)
    headers: dict[str, str] = {}
    status = 200
    if isinstance(reply, Accepted):
        status = 202
        headers["Location"] = (
            f"{request.url.path.rpartition('/')[0]}/operations/{reply.operation_id}"
        )
    if isinstance(reply, Completions) and reply.policy_version is not None:
        headers[names.POLICY_VERSION] = str(reply.policy_version)
    media_type = names.JSON
    if call.route.name in _PACKED and names.TENSORS in request.headers.get("accept", ""):
        media_type = names.TENSORS
    content = bodies.encode(reply, media_type=media_type)
    return Response(content, status, headers, media_type)


def write_refusal(refusal: LoopsError | Refused) -> Response:
    """Return the response to a call that was refused."""
    if isinstance(refusal, Refused):
        _, headers, content = errors.write_error(refusal.error)
        return Response(content, refusal.status, headers)
    status, headers, content = errors.write_error(refusal)
    return Response(content, status, headers)


def with_addresses(reply: WireModel, root_url: str, sign: SignPage) -> WireModel:
    """Return the reply with addresses that can be reached from outside."""
    match reply:
        case RunReply(run=run):
            return RunReply(run=_run(run, root_url))
        case RunListing(runs=runs):
            return RunListing(runs=[_run(run, root_url) for run in runs])
        case SamplerReply(sampler=sampler):
            return SamplerReply(sampler=_sampler(sampler, root_url))
        case SamplerListing(samplers=samplers):
            return SamplerListing(samplers=[_sampler(each, root_url) for each in samplers])
        case DeploymentReply(deployment=deployment):
            return DeploymentReply(deployment=_deployment(deployment, root_url))
        case DeploymentListing(deployments=found):
            return DeploymentListing(deployments=[_deployment(each, root_url) for each in found])
        case CheckpointFilesResponse():
            return sign(reply, root_url)
        case _:
            return reply


def _run(run: Run, root_url: str) -> Run:
    return run.model_copy(update={"base_url": f"{root_url}{run.base_url}"})


def _sampler(sampler: SamplerRecord, root_url: str) -> SamplerRecord:
    return sampler.model_copy(update={"base_url": f"{root_url}{sampler.base_url}"})


def _deployment(deployment: Deployment, root_url: str) -> Deployment:
    return deployment.model_copy(update={"base_url": f"{root_url}{deployment.base_url}"})
