"""What belongs to another owner does not exist: 404 over the whole table of routes.

The cases are made from the table: every route, with every id of another owner's in every place
where a request can name one. A new route that names a new kind of id fails until it is known here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from tests.unit.loops_transport_http.server.conftest import key_header
from tests.unit.loops_transport_http.server.life import BODIES, DATUM, done, open_run

from loops_core.types import routes
from loops_core.types.routes import Route
from loops_transport_http.server.app import Front
from loops_transport_http.server.paths import full_paths

Json = dict[str, Any]

PLACES: Final[dict[str, dict[str, list[str]]]] = {
    "body": {
        routes.CREATE_TRAINER.name: ["session_id", "path"],
        routes.CREATE_SAMPLER.name: ["session_id", "run_id", "model_path"],
        routes.VALIDATE_CHECKPOINT.name: ["checkpoint_path", "run_id"],
        "load_state": ["path"],
        "load_state_with_optimizer": ["path"],
    },
    "query": {routes.LIST_CHECKPOINTS.name: ["run_id", "checkpoint_path"]},
    "header": {
        routes.SAMPLE.name: ["X-Run-Id", "X-Checkpoint-Path"],
        routes.LIST_MODELS.name: ["X-Run-Id", "X-Checkpoint-Path"],
        routes.SAMPLER_POLICY_VERSION.name: ["X-Run-Id"],
    },
}
"""Where a request may name things, beside its path."""

PATH_NAMES: Final = {
    "trainer_id", "sampler_id", "team_id", "session_id", "run_id", "deployment_id", "model_id",
    "checkpoint_id", "operation_id",
}  # fmt: skip
"""Every kind of id that a path may have."""


@dataclass(frozen=True)
class Case:
    """One place of one route that names a thing of another owner's."""

    route: Route[Any]
    path: str
    place: str
    name: str

    def __str__(self) -> str:
        return f"{self.route.name}-{self.place}-{self.name}{'-team' * ('/teams/' in self.path)}"


def all_cases() -> list[Case]:
    cases: list[Case] = []
    for route in routes.ROUTES:
        for path in full_paths(route):
            names = re.findall(r"{(\w+)}", path)
            assert set(names) <= PATH_NAMES, f"{path} names what this test does not know"
            cases += [Case(route, path, "path", name) for name in names]
            for place, known in PLACES.items():
                cases += [Case(route, path, place, name) for name in known.get(route.name, [])]
    return cases


@dataclass
class Things:
    """One owner's things by the names under which requests speak of them."""

    http: httpx.AsyncClient
    ids: dict[str, str] = field(default_factory=dict[str, str])


async def make_things(front: Front, owner: str) -> Things:
    """Open a run with a checkpoint of each kind and a sampler, and run some operations."""
    transport = httpx.ASGITransport(front)
    http = httpx.AsyncClient(
        transport=transport, base_url="http://loops.test", headers=key_header(owner)
    )
    run = await open_run(http)
    trainer = run["base_url"]
    operation_id, _ = await done(http, trainer, "forward_backward", data=[DATUM])
    _, state = await done(http, trainer, "save_state", name="state")
    _, weights = await done(http, trainer, "save_weights_for_sampler", name="weights")
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = (await http.post("/v1/loops/samplers", json=wanted)).json()["sampler"]
    listing = (await http.get("/v1/loops/checkpoints", params={"run_id": run["id"]})).json()
    ids = {
        "team_id": owner,
        "session_id": run["session_id"],
        "run_id": run["id"],
        "trainer_id": run["id"],
        "deployment_id": run["deployment_id"],
        "model_id": sampler["model_id"],
        "sampler_id": sampler["id"],
        "sampler_deployment_id": sampler["deployment_id"],
        "checkpoint_id": listing["checkpoints"][0]["id"],
        "operation_id": operation_id,
        "path": state["path"],
        "model_path": weights["path"],
        "checkpoint_path": weights["path"],
        "X-Run-Id": run["id"],
        "X-Checkpoint-Path": weights["path"],
    }
    return Things(http, ids)


@pytest.fixture
async def owners(make_front: Callable[..., Front]) -> AsyncIterator[tuple[Things, Things]]:
    """Return Alice's things and Bob's."""
    front = make_front()
    alice, bob = await make_things(front, "alice"), await make_things(front, "bob")
    yield alice, bob
    await alice.http.aclose()
    await bob.http.aclose()


def make_request(case: Case, mine: Things, other: Things) -> httpx.Request:
    """Return a request of Bob's that is right but for the one thing of Alice's that it names."""
    ids = dict(mine.ids)
    if case.route is routes.GET_MODEL_DEPLOYMENT:
        ids["deployment_id"] = ids["sampler_deployment_id"]
    if case.place == "path":
        foreign = "sampler_deployment_id" if "model_id" in case.path else case.name
        ids[case.name] = other.ids[foreign if case.name == "deployment_id" else case.name]
    path = re.sub(r"{(\w+)}", lambda name: ids[name[1]], case.path)
    body: Json = {
        name: ids[name] if value == "" else value
        for name, value in BODIES.get(case.route.name, {}).items()
    }
    if case.route is routes.POLL:
        body["operation_ids"] = [ids["operation_id"]]
    query: dict[str, str] = {}
    if case.route is routes.LIST_CHECKPOINTS:
        query = {case.name: other.ids[case.name]}
    if case.place == "body":
        if case.route is routes.CREATE_SAMPLER and case.name != "session_id":
            body = {"session_id": ids["session_id"]}
        body[case.name] = other.ids[case.name]
    headers = {case.name: other.ids[case.name]} if case.place == "header" else {}
    has_body = case.route.body_type is not None
    return mine.http.build_request(
        case.route.method, path, json=body if has_body else None, params=query, headers=headers
    )


async def picture(things: Things) -> list[Json]:
    """Return all that an owner can see of what is theirs."""
    paths = [
        "/v1/loops/runs",
        "/v1/loops/samplers",
        "/v1/loops/deployments",
        f"/v1/loops/sessions/{things.ids['session_id']}",
        f"/v1/loops/checkpoints?run_id={things.ids['run_id']}",
        f"/trainers/{things.ids['run_id']}/policy_version",
        f"/trainers/{things.ids['run_id']}/operations/{things.ids['operation_id']}",
        f"/samplers/{things.ids['sampler_id']}/v1/models",
    ]
    return [(await things.http.get(path)).json() for path in paths]


@pytest.mark.slow
async def test_what_is_anothers_is_404_wherever_it_is_named(
    owners: tuple[Things, Things],
) -> None:
    alice, bob = owners
    before = await picture(alice)
    wrong: dict[str, tuple[int, str]] = {}
    for case in all_cases():
        reply = await bob.http.send(make_request(case, bob, alice))
        if reply.status_code == 404 and reply.headers["x-baseten-error-source"] == "06":
            continue
        accepted = reply.json().get("operation_id") if reply.status_code == 202 else None
        if case.name == "path" and accepted is not None:  # found out when it runs
            _, ended = await done(
                bob.http, f"/trainers/{bob.ids['run_id']}", None, operation_id=accepted
            )
            if ended.get("error_class") == "NotFoundError":
                continue
        wrong[str(case)] = (reply.status_code, reply.text[:300])
    assert wrong == {}
    assert await picture(alice) == before
    assert alice.ids["run_id"] in str(before[0])


@pytest.mark.slow
async def test_a_request_that_names_only_ones_own_things_is_answered(
    owners: tuple[Things, Things],
) -> None:
    """The cases above fail for what they name, and for nothing else."""
    alice, _ = owners
    for case in all_cases():
        if case.route is routes.DEACTIVATE_RUN:
            continue  # it ends what the other cases need
        reply = await alice.http.send(make_request(case, alice, alice))
        assert reply.status_code in (200, 202), (str(case), reply.text)


@pytest.mark.parametrize(
    "header", [None, "Api-Key wrong", "Bearer ", "Basic !", "alices-key", "Digest alices-key"]
)
async def test_without_a_key_every_route_is_401(
    header: str | None, http: httpx.AsyncClient
) -> None:
    http.headers.pop("Authorization")
    if header is not None:
        http.headers["Authorization"] = header
    for route in routes.ROUTES:
        for path in full_paths(route):
            reply = await http.request(route.method, re.sub(r"{\w+}", "x", path))
            assert reply.status_code == 401
            assert reply.headers["x-baseten-error-source"] == "06"
            assert "alices-key" not in reply.text
