"""The link from a sampling client to its sampler."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, TypeVar, final

from loops_core.client import calls
from loops_core.client.arguments import check_seconds, check_text
from loops_core.client.completions import read_completions, sample_body
from loops_core.client.drivers import Driver, Flow
from loops_core.client.link import new_key
from loops_core.client.opening import open_driver
from loops_core.errors import UnsupportedError, UsageError
from loops_core.plugins import Plugins
from loops_core.types.datum import ModelInput
from loops_core.types.deployment import ModelListing, SamplerDeployment
from loops_core.types.routes import Call, SamplerPin
from loops_core.types.sampling import SampleResponse, SamplingParams

ResultT = TypeVar("ResultT")

_SCORING: Final = SamplingParams(max_tokens=1, temperature=0.0)
"""Scoring a prompt draws one token, which is thrown away."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """Everything about a sampling client that its copies share.

    Attributes:
        base_model: the base model's name.
        deployment: where the sampler answers.
        service_url: the service through which it is reached.
        pin: which weights may answer.
        session_id: the session that made it.
        timeout_s: bound of one call; None = the transport's own.
        ready_timeout_s: how long failures that may pass are retried.
    """

    base_model: str
    deployment: SamplerDeployment
    service_url: str
    pin: SamplerPin
    session_id: str | None = None
    timeout_s: float | None = None
    ready_timeout_s: float = 3600.0


@final
class SamplerLink:
    """One client's connection to one sampler: shared, or its own and opened at the first call."""

    def __init__(
        self,
        settings: SamplerSettings,
        *,
        driver: Driver | None = None,
        plugins: Plugins | None = None,
        api_key: str | None = None,
    ) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._shared = driver
        self._own: Driver | None = None
        self._plugins = plugins
        self._api_key = api_key
        self._closed = False

    def plugins(self) -> Plugins:
        """Return the plugins, loaded at the first need."""
        with self._lock:
            if self._plugins is None:
                self._plugins = Plugins.load()
            return self._plugins

    def check_open(self) -> None:
        """Raise `UsageError` once the client is closed."""
        if self._closed:
            raise UsageError("this SamplingClient is closed: create another one")

    def run(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; blocks the calling thread."""
        return self._driver().run(flow)

    async def run_async(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; never blocks the event loop."""
        return await self._driver().run_async(flow)

    def sample(
        self,
        prompt: ModelInput,
        *,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        affinity_key: str | None = None,
        include_routed_experts: bool | None = None,
    ) -> Flow[SampleResponse]:
        """Return new sequences; arguments as in `SamplingClient.sample`."""
        body = sample_body(
            prompt,
            num_samples=num_samples,
            sampling_params=sampling_params,
            include_prompt_logprobs=include_prompt_logprobs,
            topk_prompt_logprobs=topk_prompt_logprobs,
            include_routed_experts=include_routed_experts,
        )
        if affinity_key is not None:
            check_text("affinity_key", affinity_key)
        call = calls.sample(
            body,
            base_url=self.settings.deployment.base_url,
            pin=self.settings.pin,
            idempotency_key=new_key(),
            affinity_key=affinity_key,
            timeout_s=self.settings.timeout_s,
        )
        budget_s = self.settings.ready_timeout_s
        if self.settings.timeout_s is not None:
            budget_s = min(budget_s, self.settings.timeout_s)
        answer = yield from self._driver().persist(call, budget_s=budget_s)
        return read_completions(answer, body)

    def compute_logprobs(
        self, prompt: ModelInput, affinity_key: str | None
    ) -> Flow[list[float | None]]:
        """Return each prompt token's log-probability."""
        response = yield from self.sample(
            prompt,
            sampling_params=_SCORING,
            include_prompt_logprobs=True,
            affinity_key=affinity_key,
        )
        if response.prompt_logprobs is None:
            raise UnsupportedError(
                "the sampler returned no prompt_logprobs: it cannot score prompts"
            )
        return response.prompt_logprobs

    def ensure_ready(self, ready_timeout: float | None) -> Flow[None]:
        """Return once the sampler answers."""
        budget_s = self.settings.ready_timeout_s
        if ready_timeout is not None:
            budget_s = check_seconds("ready_timeout", ready_timeout)
        yield from self._driver().persist(self._list_models(), budget_s=budget_s)

    def served_name(self, *, is_adapter: bool) -> Flow[str | None]:
        """Return the first base model, or the first adapter, that the sampler serves."""
        budget_s = self.settings.ready_timeout_s
        listing = yield from self._driver().persist(self._list_models(), budget_s=budget_s)
        names = (card.id for card in listing.data if (card.parent is not None) == is_adapter)
        return next(names, None)

    def close(self) -> None:
        """End this connection, and the transport if it is this link's own; twice is no error."""
        own = self._end()
        if own is not None:
            own.transport.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        own = self._end()
        if own is not None:
            await own.transport.aclose()

    def _list_models(self) -> Call[ModelListing]:
        return calls.list_models(base_url=self.settings.deployment.base_url, pin=self.settings.pin)

    def _driver(self) -> Driver:
        with self._lock:
            self.check_open()
            if self._shared is not None:
                return self._shared
            if self._own is None:
                self._own = open_driver(
                    self.settings.service_url, api_key=self._api_key, plugins=self.plugins()
                )
            return self._own

    def _end(self) -> Driver | None:
        with self._lock:
            self._closed = True
            own, self._own = self._own, None
            return own
