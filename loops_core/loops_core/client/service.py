"""ServiceClient: the entry point to a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from loops_core.client import creating
from loops_core.client.arguments import check_offered
from loops_core.client.closing import Closable
from loops_core.client.creating import SamplerWish, TrainerWish
from loops_core.client.drivers import twin_of
from loops_core.client.opening import local_url, no_local_transport, service_options, service_url
from loops_core.client.reading import ServiceReading
from loops_core.client.sampling import SamplingClient
from loops_core.client.service_link import ServiceLink
from loops_core.client.training import TrainingClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loops_core.clock import Clock
    from loops_core.plugins import Plugins
    from loops_core.types.deployment import AvailabilityModel
    from loops_core.types.training import WandbConfig


@final
class ServiceClient(ServiceReading, Closable):
    """The entry point: makes training clients and sampling clients, and lists checkpoints.

    Safe to use from many threads and event loops. Closing it closes the training clients that it
    made and the transport that all its clients share.

    Args:
        training_project_id: of older services; cannot be honoured.
        base_url: names transport and service: `inproc:jax`, `inproc:mock`, or the address of a
            server. None = `LOOPS_BASE_URL`, else `inproc:jax`.
        api_key: the key; None = `LOOPS_API_KEY`, else `BASETEN_API_KEY`, else none.
        reuse_from_run_id: a run whose capacity may be taken over; None = `LOOPS_REUSE_FROM_RUN_ID`.
        reuse_from_session_id: a session whose capacity may be taken over; a run goes before it.
            None = `LOOPS_REUSE_FROM_SESSION_ID`.
        team: the name of the team that owns what is made; None = `LOOPS_TEAM`, else the caller.
        availability_model: `dedicated`, or `spot` if capacity may be taken away. None =
            `LOOPS_AVAILABILITY_MODEL`, else `dedicated`.
        internal_backend_version: a test version of the service; None =
            `INTERNAL_LOOPS_BACKEND_VERSION`, else the service's own.
        plugins: the plugins to use; None = the installed ones.
        clock: where time comes from; None = the machine's clock.

    The service says what it cannot honour when something is made: an `UnsupportedError` that names
    it.

    Raises:
        PluginError: nothing installed serves `base_url`; the message names the extra to install.
        UnsupportedError: `training_project_id` was given.
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        training_project_id: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        reuse_from_run_id: str | None = None,
        reuse_from_session_id: str | None = None,
        team: str | None = None,
        availability_model: AvailabilityModel | str | None = None,
        internal_backend_version: str | None = None,
        plugins: Plugins | None = None,
        clock: Clock | None = None,
    ) -> None:
        missing = "runs belong to sessions, not to projects"
        check_offered("training_project_id", training_project_id, default=None, missing=missing)
        url = service_url(base_url)
        options = service_options(
            url,
            reuse_from_run_id=reuse_from_run_id,
            reuse_from_session_id=reuse_from_session_id,
            team=team,
            availability_model=availability_model,
            internal_backend_version=internal_backend_version,
        )
        self._link = ServiceLink.open(
            url, api_key=api_key, options=options, plugins=plugins, clock=clock
        )

    @classmethod
    def local(
        cls,
        trainer_url: str,
        sampler_url: str,
        *,
        api_key: str | None = None,
        plugins: Plugins | None = None,
    ) -> Self:
        """Return a client of one trainer and one sampler that have no service around them.

        Its training client has no run id. What only a service can do, such as listing checkpoints,
        is refused by name. Nothing is read from the environment.

        Args:
            trainer_url: where the trainer answers.
            sampler_url: where the sampler answers that loads what the trainer publishes.
            api_key: shown to both; None = none.
            plugins: the plugins to use; None = the installed ones.

        Raises:
            UnsupportedError: no installed transport reaches a trainer without its service.
        """
        with no_local_transport(trainer_url):
            url = local_url(trainer_url, sampler_url)
            return cls(base_url=url, api_key=api_key, plugins=plugins)

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        max_seq_len: int | None = None,
        name: str | None = None,
        sampler_timeout: float | None = None,
        with_sampler: bool = False,
        replicas: int = 1,
        sampler_num_replicas: int | None = None,
        scope: str | None = None,
        base_checkpoint: str | None = None,
    ) -> TrainingClient:
        """Return a client of a new trainer with a fresh LoRA adapter; blocks until it is ready.

        Args:
            base_model: a model that the service knows by name; in process also a local directory.
            rank: the adapter's rank.
            seed: makes the adapter's initial values reproducible; None draws one.
            timeout: seconds that one submit may take, its repetitions included.
            ready_timeout: seconds to wait for the trainer, and later for a result by default.
            wandb_config: logs metrics to this Weights & Biases project.
            max_seq_len: most positions of one datum; None = what the service chooses.
            name: a name for the run.
            sampler_timeout: seconds that one sample may take; None = the transport's own bound.
            with_sampler: also open the paired sampler now, not at the first need.
            replicas: copies of the trainer.
            sampler_num_replicas: copies of the paired sampler; None = as
                the service chooses.
            scope: of a service's test versions; None = `BASETEN_LOOPS_SCOPE`.
            base_checkpoint: base weights from elsewhere: `hf://ORGANISATION/NAME@REVISION`.

        Raises:
            UsageError: an argument is wrong.
            UnsupportedError: the service cannot honour an argument, or wandb is not installed.
            NotFoundError: nobody knows the base model.
            ResultTimeoutError: the trainer was not ready in time.
        """
        wish = TrainerWish(
            base_model=base_model,
            rank=rank,
            seed=seed,
            timeout=timeout,
            ready_timeout=ready_timeout,
            wandb_config=wandb_config,
            max_seq_len=max_seq_len,
            name=name,
            sampler_timeout=sampler_timeout,
            with_sampler=with_sampler,
            replicas=replicas,
            sampler_num_replicas=sampler_num_replicas,
            scope=scope,
            base_checkpoint=base_checkpoint,
        )
        return self._link.run(creating.create_trainer(self._link, wish))

    @twin_of(create_lora_training_client)
    async def create_lora_training_client_async(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        timeout: float = 600.0,  # noqa: ASYNC109 - as published
        ready_timeout: float = 3600.0,
        wandb_config: WandbConfig | None = None,
        *,
        max_seq_len: int | None = None,
        name: str | None = None,
        sampler_timeout: float | None = None,
        with_sampler: bool = False,
        replicas: int = 1,
        sampler_num_replicas: int | None = None,
        scope: str | None = None,
        base_checkpoint: str | None = None,
    ) -> TrainingClient:
        wish = TrainerWish(
            base_model=base_model,
            rank=rank,
            seed=seed,
            timeout=timeout,
            ready_timeout=ready_timeout,
            wandb_config=wandb_config,
            max_seq_len=max_seq_len,
            name=name,
            sampler_timeout=sampler_timeout,
            with_sampler=with_sampler,
            replicas=replicas,
            sampler_num_replicas=sampler_num_replicas,
            scope=scope,
            base_checkpoint=base_checkpoint,
        )
        return await self._link.run_async(creating.create_trainer(self._link, wish))

    def create_training_client_from_state(
        self,
        path: str,
        user_metadata: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> TrainingClient:
        """Return a client of a new trainer with a checkpoint's weights; its optimizer starts fresh.

        Args:
            path: `bt://loops:<run_id>/weights/<name>`.
            user_metadata: cannot be honoured.
            replicas: copies of the trainer.

        Raises:
            UsageError: an argument is wrong.
            NotFoundError: there is no such checkpoint.
        """
        return self._link.run(
            creating.restore_trainer(
                self._link, path, user_metadata, replicas, with_optimizer=False
            )
        )

    @twin_of(create_training_client_from_state)
    async def create_training_client_from_state_async(
        self,
        path: str,
        user_metadata: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> TrainingClient:
        return await self._link.run_async(
            creating.restore_trainer(
                self._link, path, user_metadata, replicas, with_optimizer=False
            )
        )

    def create_training_client_from_state_with_optimizer(
        self,
        path: str,
        user_metadata: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> TrainingClient:
        """Return a client of a new trainer that goes on exactly where a checkpoint was saved.

        Args:
            path: `bt://loops:<run_id>/weights/<name>`.
            user_metadata: cannot be honoured.
            replicas: copies of the trainer.

        Raises:
            UsageError: an argument is wrong.
            NotFoundError: there is no such checkpoint.
        """
        return self._link.run(
            creating.restore_trainer(self._link, path, user_metadata, replicas, with_optimizer=True)
        )

    @twin_of(create_training_client_from_state_with_optimizer)
    async def create_training_client_from_state_with_optimizer_async(
        self,
        path: str,
        user_metadata: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> TrainingClient:
        return await self._link.run_async(
            creating.restore_trainer(self._link, path, user_metadata, replicas, with_optimizer=True)
        )

    def create_sampling_client(
        self,
        base_model: str | None = None,
        timeout: float | None = None,
        ready_timeout: float = 3600.0,
        model_path: str | None = None,
        max_seq_len: int | None = None,
        num_replicas: int | None = None,
        scope: str | None = None,
    ) -> SamplingClient:
        """Return a client of a new sampler of its own; blocks until the sampler answers.

        Args:
            base_model: sample from this base model. Or pass `model_path`.
            timeout: seconds that one sample may take; None = the transport's own bound.
            ready_timeout: seconds to wait for the sampler, and later to retry failures.
            model_path: sample from this checkpoint, a `bt://loops:<run_id>/sampler_weights/<name>`.
            max_seq_len: most positions of prompt and new tokens; None = what the service chooses.
            num_replicas: copies of the sampler; None = as the service chooses.
            scope: of a service's test versions; None = `BASETEN_LOOPS_SCOPE`.

        Raises:
            UsageError: an argument is wrong, or not exactly one of base_model and model_path.
            UnsupportedError: the service cannot honour an argument.
            NotFoundError: nobody knows the base model, or there is no such checkpoint.
            TransportError: the sampler did not answer in time.
        """
        wish = SamplerWish(
            base_model=base_model,
            model_path=model_path,
            timeout=timeout,
            ready_timeout=ready_timeout,
            max_seq_len=max_seq_len,
            num_replicas=num_replicas,
            scope=scope,
        )
        return self._link.run(creating.create_sampler(self._link, wish))

    @twin_of(create_sampling_client)
    async def create_sampling_client_async(
        self,
        base_model: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as published
        ready_timeout: float = 3600.0,
        model_path: str | None = None,
        max_seq_len: int | None = None,
        num_replicas: int | None = None,
        scope: str | None = None,
    ) -> SamplingClient:
        wish = SamplerWish(
            base_model=base_model,
            model_path=model_path,
            timeout=timeout,
            ready_timeout=ready_timeout,
            max_seq_len=max_seq_len,
            num_replicas=num_replicas,
            scope=scope,
        )
        return await self._link.run_async(creating.create_sampler(self._link, wish))

    def close(self) -> None:
        """End this client, its training clients and the transport; may be called twice."""
        self._link.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await self._link.aclose()
