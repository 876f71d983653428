"""A service under test: what all rules share, so that a rule costs little."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Self, TypeVar, final
from urllib.parse import urlsplit, urlunsplit

from loops_core.errors import LoopsError, UsageError
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.plugins import Plugins
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.routes import Call
from loops_mock.contract.recording import CallLog, RecordingTransport
from loops_mock.contract.subject import Subject

if TYPE_CHECKING:
    import httpx

    from loops_core.client.service import ServiceClient
    from loops_core.clock import Clock

ReplyT = TypeVar("ReplyT", bound=WireModel)

_MODELS: Final = {"inproc:mock": "mock-tiny", "inproc:jax": "loops-tiny"}
"""The small model of each backend of ours: in process every installed model is listed."""

_ROWS: Final = 3


@final
class Target:
    """A service under test, opened once; `subject` gives each rule clients of its own.

    The transport is opened once and shared, so that in process the base model stays loaded and over
    HTTP connections stay open. Close it when done.

    Attributes:
        url: where the service is.
        api_key: what it asks for.
        known: features by name, once they were asked for.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        base_model: str | None = None,
        plugins: Iterable[object] = (),
        clock: Clock | None = None,
    ) -> None:
        """Open the service.

        Args:
            url: as `ServiceClient` takes it.
            api_key: the key; None = none.
            base_model: the model to train; None = the first that the service lists.
            plugins: plugins beside the installed ones.
            clock: where time comes from; None = the machine's clock.

        Raises:
            PluginError: nothing installed serves the URL.
            UsageError: the URL is not one.
        """
        self.url = url.rstrip("/")
        self.api_key = api_key
        self.known: dict[str, bool] = {}
        self.advertised: str | None = None
        self._base_model = base_model or _MODELS.get(self.url.partition("?")[0])
        self._plugins = Plugins.load(extra=plugins)
        self._clock = clock
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._transport = self._plugins.open_transport(url, api_key=api_key)

    @property
    def is_http(self) -> bool:
        """Tell whether the service is reached over HTTP."""
        return self.url.partition(":")[0].lower() in ("http", "https")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what no report may show."""
        password = urlsplit(self.url).password if self.is_http else None
        return tuple(text for text in (self.api_key, password) if text)

    @property
    def shown_url(self) -> str:
        """Return the URL without the secrets that it may hold."""
        if not self.is_http:
            return self.url
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    @property
    def base_model(self) -> str:
        """Return the model that rules train.

        Raises:
            UsageError: none was given, and the service lists none.
        """
        with self._lock:
            if self._base_model is None:
                offered = self._transport.send(Call(route=routes.GET_CAPABILITIES, timeout_s=60))
                names = [model.model_name for model in offered.supported_models]
                if not names:
                    raise UsageError(
                        "base_model is not given and the service lists no model: name one that it"
                        " trains",
                        field="base_model",
                    )
                self._base_model = names[0]
            return self._base_model

    def subject(self, *, seed: int = 0, num_rows: int = _ROWS) -> Subject:
        """Return the service for one rule, with clients and random numbers of its own.

        Args:
            seed: of the subject's random numbers.
            num_rows: how many datums `Subject.data` makes unless it is told.
        """
        return Subject(self, seed=seed, num_rows=num_rows)

    def open_service(
        self,
        log: CallLog,
        *,
        wrap: Callable[[Transport], Transport] | None = None,
        clock: Clock | None = None,
    ) -> ServiceClient:
        """Return a new client of the service whose calls are kept in `log`.

        Args:
            log: takes the calls.
            wrap: what to put between the client and the transport; None = nothing.
            clock: the client's clock, unless the target has one.
        """
        from loops_core.client.service import ServiceClient

        carried: Transport = RecordingTransport(self._transport, log)
        shared = _Shared(carried if wrap is None else wrap(carried))
        return ServiceClient(
            base_url=self.url,
            api_key=self.api_key,
            plugins=self._plugins.including([shared]),
            clock=self._clock or clock,
        )

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply to one call that belongs to no rule."""
        return self._transport.send(call)

    def http_client(self, headers: Mapping[str, str]) -> httpx.Client:
        """Return the one plain HTTP client of all rules, made with these headers at its first use.

        Reading the machine's certificates for each rule would take longer than most rules.
        """
        import httpx

        with self._lock:
            if self._http is None:
                self._http = httpx.Client(base_url=self.url, headers=headers, trust_env=False)
            return self._http

    def deactivate(self, run_id: str) -> None:
        """End a run that a rule made, where the service can."""
        call = Call(route=routes.DEACTIVATE_RUN, path_args={"run_id": run_id}, timeout_s=30)
        with contextlib.suppress(LoopsError):
            self._transport.send(call)

    def close(self) -> None:
        """Close the transport; in process that is the service itself."""
        if self._http is not None:
            self._http.close()
        self._transport.close()

    def __enter__(self) -> Self:
        """Return the target."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


@final
class _Shared:
    """A plugin that hands out one open transport, whatever the URL."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @hookimpl(tryfirst=True)
    def loops_transport(self, url: str, config: TransportConfig) -> Transport:
        del url, config
        return self._transport
