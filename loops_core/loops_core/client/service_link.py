"""The link from a service client to its service: transport, session, the clients it made."""

from __future__ import annotations

import threading
from typing import Final, Self, TypeVar, final

from loops_core.client import calls
from loops_core.client.closing import Closable
from loops_core.client.drivers import Driver, Flow, send
from loops_core.client.link import Placement, new_key
from loops_core.client.opening import ServiceOptions, open_driver
from loops_core.client.turns import Turn, Turnstile
from loops_core.clock import Clock
from loops_core.errors import UsageError
from loops_core.plugins import Plugins
from loops_core.types.base import WireModel
from loops_core.types.routes import Call

ResultT = TypeVar("ResultT")
ReplyT = TypeVar("ReplyT", bound=WireModel)

CONTROL_TIMEOUT_S: Final = 300.0
"""Bound of a call of the control plane, its repetitions included."""


@final
class ServiceLink:
    """One service client's connection.

    Attributes:
        driver: runs flows over the transport.
        plugins: what the transport was opened with.
        base_url: the service's URL.
        options: what is asked of everything that is made.
    """

    def __init__(
        self, driver: Driver, plugins: Plugins, base_url: str, options: ServiceOptions
    ) -> None:
        self.driver = driver
        self.plugins = plugins
        self.base_url = base_url
        self.options = options
        self._team_id: str | None = None
        self._turnstile = Turnstile(driver.clock)
        self._session_id: str | None = None
        self._lock = threading.Lock()
        self._clients: list[Closable] = []
        self._closed = False

    @classmethod
    def open(
        cls,
        url: str,
        *,
        api_key: str | None,
        options: ServiceOptions,
        plugins: Plugins | None,
        clock: Clock | None,
    ) -> Self:
        """Return a connection to the service at the URL."""
        found = plugins or Plugins.load()
        driver = open_driver(url, api_key=api_key, plugins=found, clock=clock)
        return cls(driver, found, url, options)

    def check_open(self) -> None:
        """Raise `UsageError` once the client is closed."""
        if self._closed:
            raise UsageError("this ServiceClient is closed: create another one")

    def run(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; blocks the calling thread."""
        self.check_open()
        return self.driver.run(flow)

    async def run_async(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; never blocks the event loop."""
        self.check_open()
        return await self.driver.run_async(flow)

    def session(self) -> Flow[str]:
        """Return the session's id, opening the session if nobody has."""
        turn = Turn()
        try:
            yield from self._turnstile.wait(turn, count=1, timeout_s=CONTROL_TIMEOUT_S)
            if self._session_id is None:
                self._team_id = yield from self._find_team()
                call = calls.create_session(team_id=self._team_id, idempotency_key=new_key())
                reply = yield from self.driver.persist(call, budget_s=CONTROL_TIMEOUT_S)
                self._session_id = reply.session.id
            return self._session_id
        finally:
            self._turnstile.leave(turn)

    def placement(self, scope: str | None) -> Placement:
        """Return where things are made, once there is a session."""
        return Placement(
            team_id=self._team_id,
            scope=self.options.scope if scope is None else scope,
            debug_version=self.options.internal_backend_version,
        )

    def _find_team(self) -> Flow[str | None]:
        name = self.options.team
        if name is None:
            return None
        listing = yield from self.read(calls.list_teams())
        found = next((team.id for team in listing.teams if team.name == name), None)
        if found is None:
            names = ", ".join(sorted(repr(team.name) for team in listing.teams)) or "none"
            raise UsageError(f"team {name!r}: there is no such team; yours: {names}", field="team")
        return found

    def read(self, call: Call[ReplyT]) -> Flow[ReplyT]:
        """Return the reply to a call that changes nothing, repeated while it fails in passing."""
        return self.driver.persist(call, budget_s=CONTROL_TIMEOUT_S)

    def create(self, call: Call[ReplyT], *, budget_s: float) -> Flow[ReplyT]:
        """Return the reply to a call that makes something, repeated only where that is safe."""
        if self.driver.transport.repeats_creates:
            return (yield from self.driver.persist(call, budget_s=budget_s))
        return (yield from send(call))

    def adopt(self, client: Closable) -> None:
        """Close this client too when the service client is closed."""
        with self._lock:
            self._clients.append(client)

    def close(self) -> None:
        """Close the clients that are still there, then the transport; twice is no error."""
        for client in self._end():
            client.close()
        self.driver.transport.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        for client in self._end():
            await client.aclose()
        await self.driver.transport.aclose()

    def _end(self) -> list[Closable]:
        with self._lock:
            self._closed = True
            clients, self._clients = self._clients, []
            return clients
