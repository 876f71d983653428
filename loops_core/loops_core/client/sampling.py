"""SamplingClient: draws tokens from one sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from loops_core.client.closing import Closable
from loops_core.client.drivers import twin_of
from loops_core.client.sampler_link import SamplerLink, SamplerSettings
from loops_core.client.tokenizers import TokenizerCache
from loops_core.types.checkpoint import CheckpointAddress
from loops_core.types.datum import ModelInput
from loops_core.types.deployment import SamplerDeployment
from loops_core.types.routes import SamplerPin
from loops_core.types.sampling import SampleResponse, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loops_core.plugins import Plugins


@final
class SamplingClient(Closable):
    """Draws tokens from one sampler, with the weights that it is pinned to.

    Made by `ServiceClient.create_sampling_client` and by the methods of a TrainingClient that
    return one; or constructed with the address of a sampler. Safe to use from many threads and
    event loops. Can be pickled: the copy opens a connection of its own at its first call, with the
    key that its own environment holds.

    Args:
        base_model: the base model's name.
        deployment: where the sampler answers.
        base_url: the service through which it is reached; None = the sampler's own address.
        api_key: the key; None = `LOOPS_API_KEY` or `BASETEN_API_KEY`. Never pickled.
        timeout: bound of one call in seconds; None = the transport's own.
        ready_timeout: how long failures that may pass are retried, in seconds.
        min_policy_version: the lowest version whose weights may answer.
        checkpoint_path: the checkpoint that answers, until `min_policy_version` is live.
        sampler_id: the sampler's id, where it belongs to no run.
        run_id: the run that the sampler is paired with.
        session_id: the session that made it.
        plugins: the plugins to open the connection with; None = the installed ones.
    """

    def __init__(
        self,
        *,
        base_model: str,
        deployment: SamplerDeployment,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        ready_timeout: float = 3600.0,
        min_policy_version: int | None = None,
        checkpoint_path: str | None = None,
        sampler_id: str | None = None,
        run_id: str | None = None,
        session_id: str | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        settings = SamplerSettings(
            base_model=base_model,
            deployment=deployment,
            service_url=base_url or deployment.base_url,
            pin=SamplerPin(
                run_id=run_id,
                sampler_id=sampler_id,
                checkpoint_path=checkpoint_path,
                min_policy_version=min_policy_version,
            ),
            session_id=session_id,
            timeout_s=timeout,
            ready_timeout_s=ready_timeout,
        )
        self._attach(SamplerLink(settings, plugins=plugins, api_key=api_key))

    @classmethod
    def on_link(cls, link: SamplerLink) -> Self:
        """Return a client over a connection that is there already."""
        client = cls.__new__(cls)
        client._attach(link)  # noqa: SLF001 - this class's own
        return client

    def _attach(self, link: SamplerLink) -> None:
        self._link = link
        self._tokenizers = TokenizerCache(link.plugins, link.settings.base_model)

    @property
    def checkpoint_path(self) -> str | None:
        """Return the address of the checkpoint that this client is pinned to."""
        return self._link.settings.pin.checkpoint_path

    @property
    def checkpoint_name(self) -> str | None:
        """Return the name of the checkpoint that this client is pinned to."""
        path = self.checkpoint_path
        return None if path is None else CheckpointAddress.parse(path).name

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,  # noqa: FBT001, FBT002 - the published order
        topk_prompt_logprobs: int = 0,
        *,
        affinity_key: str | None = None,
        include_routed_experts: bool | None = None,
    ) -> SampleResponse:
        """Return new sequences after the prompt; blocks until they are drawn.

        Args:
            prompt: what the model reads first, at least one token.
            num_samples: how many sequences to draw.
            sampling_params: how to draw; None = the defaults.
            include_prompt_logprobs: also return each prompt token's log-probability.
            topk_prompt_logprobs: with them, the pairs of the k most likely tokens; 0 = none.
            affinity_key: samples with one key are served by one replica where possible.
            include_routed_experts: also return the routing of a mixture-of-experts model.

        Raises:
            UsageError: an argument is wrong.
            UnsupportedError: the sampler does not offer something that was asked for.
            TransportError: the sampler did not answer within `ready_timeout`.
        """
        return self._link.run(
            self._link.sample(
                prompt,
                num_samples=num_samples,
                sampling_params=sampling_params,
                include_prompt_logprobs=include_prompt_logprobs,
                topk_prompt_logprobs=topk_prompt_logprobs,
                affinity_key=affinity_key,
                include_routed_experts=include_routed_experts,
            )
        )

    @twin_of(sample)
    async def sample_async(
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,  # noqa: FBT001, FBT002 - the published order
        topk_prompt_logprobs: int = 0,
        *,
        affinity_key: str | None = None,
        include_routed_experts: bool | None = None,
    ) -> SampleResponse:
        return await self._link.run_async(
            self._link.sample(
                prompt,
                num_samples=num_samples,
                sampling_params=sampling_params,
                include_prompt_logprobs=include_prompt_logprobs,
                topk_prompt_logprobs=topk_prompt_logprobs,
                affinity_key=affinity_key,
                include_routed_experts=include_routed_experts,
            )
        )

    def compute_logprobs(
        self, prompt: ModelInput, *, affinity_key: str | None = None
    ) -> list[float | None]:
        """Return the log-probability of each prompt token given those before it; the first is None.

        Args:
            prompt: the tokens to score.
            affinity_key: calls with one key are served by one replica where possible.

        Raises:
            UsageError: an argument is wrong.
            UnsupportedError: the sampler returns no log-probabilities of prompts.
        """
        return self._link.run(self._link.compute_logprobs(prompt, affinity_key))

    @twin_of(compute_logprobs)
    async def compute_logprobs_async(
        self, prompt: ModelInput, *, affinity_key: str | None = None
    ) -> list[float | None]:
        return await self._link.run_async(self._link.compute_logprobs(prompt, affinity_key))

    def ensure_ready(self, ready_timeout: float | None = None) -> None:
        """Return once the sampler answers.

        Args:
            ready_timeout: seconds to wait at most; None = the client's own.

        Raises:
            SamplerTerminatedError: its deployment has ended.
            TransportError: it did not answer in time.
        """
        self._link.run(self._link.ensure_ready(ready_timeout))

    @twin_of(ensure_ready)
    async def ensure_ready_async(self, ready_timeout: float | None = None) -> None:
        await self._link.run_async(self._link.ensure_ready(ready_timeout))

    @classmethod
    def ensure_ready_for_deployment(
        cls,
        *,
        base_model: str,
        deployment: SamplerDeployment,
        api_key: str | None = None,
        ready_timeout: float = 3600.0,
        base_url: str | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        """Return once the sampler of a deployment answers; arguments as in the constructor.

        Raises:
            SamplerTerminatedError: the deployment has ended.
            TransportError: it did not answer in time.
        """
        with cls(
            base_model=base_model,
            deployment=deployment,
            api_key=api_key,
            base_url=base_url,
            ready_timeout=ready_timeout,
            plugins=plugins,
        ) as client:
            client.ensure_ready()

    def discover_base_model_name(self) -> str | None:
        """Return the base model that the sampler says it serves; asks the service."""
        return self._link.run(self._link.served_name(is_adapter=False))

    def discover_adapter_name(self) -> str | None:
        """Return the first adapter that the sampler says it serves; asks the service."""
        return self._link.run(self._link.served_name(is_adapter=True))

    def get_base_model(self) -> str:
        """Return the base model's name, without asking the service."""
        return self._link.settings.base_model

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the base model's tokenizer, loaded once.

        Raises:
            UnsupportedError: transformers is not installed.
            NotFoundError: the base model comes without a tokenizer.
        """
        self._link.check_open()
        return self._tokenizers.get()

    def close(self) -> None:
        """End this client, and its connection if it opened one itself; may be called twice."""
        self._link.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await self._link.aclose()

    def __getstate__(self) -> SamplerSettings:
        """Return what a copy in another process needs; the key is not part of it."""
        return self._link.settings

    def __setstate__(self, settings: SamplerSettings) -> None:
        self._attach(SamplerLink(settings))
