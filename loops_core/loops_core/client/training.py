"""TrainingClient: one LoRA adapter in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from loops_core.client import calls, checkpoints, publishing
from loops_core.client.closing import Closable
from loops_core.client.drivers import send, twin_of
from loops_core.client.futures import ComposedFuture
from loops_core.client.link import TrainerLink
from loops_core.client.operations import TrainingOperations
from loops_core.client.sampling import SamplingClient
from loops_core.client.tokenizers import TokenizerCache
from loops_core.errors import UnsupportedError
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointDownload,
    CheckpointFilesResponse,
    CheckpointTarget,
)
from loops_core.types.training import GetInfoResponse, ModelData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@final
class TrainingClient(TrainingOperations, Closable):
    """One LoRA adapter in training: made by `ServiceClient.create_lora_training_client`.

    Safe to use from many threads and event loops. Once closed, every call raises `UsageError`.
    """

    def __init__(self, link: TrainerLink) -> None:
        super().__init__(link)
        self._tokenizers = TokenizerCache(lambda: link.plugins, link.run.base_model)

    @property
    def run_id(self) -> str | None:
        """Return the run that this client is bound to."""
        return self._link.run.run_id

    @property
    def base_checkpoint(self) -> str | None:
        """Return the checkpoint that the base weights came from; None = the model's own."""
        return self._link.settings.base_checkpoint

    @property
    def policy_version(self) -> int:
        """Return the policy version that the trainer has published last; asks the service.

        Raises:
            UnsupportedError: the service does not count versions.
        """
        link = self._link
        link.check_open()
        call = calls.policy_version(base_url=link.settings.base_url, run_id=self.run_id)
        reply = self._run(link.driver.persist(call, budget_s=link.settings.timeout_s))
        if reply.policy_version is None:
            raise UnsupportedError("the trainer does not tell its policy_version")
        return reply.policy_version

    def save_weights_and_get_sampling_client(
        self, name: str = "default"
    ) -> ComposedFuture[SamplingClient]:
        """Submit the publishing of the adapter; return a future of a client that samples from it.

        The future's first stage is the publishing. In the second the paired sampler is asked every
        two seconds until it has the new version, for 600 seconds at most, whatever `timeout` a wait
        has.

        Args:
            name: what to call the checkpoint.

        Returns:
            A future of a sampling client whose samples come from this version or a later one.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
            StalePolicyError: (a RuntimeError, from the future) the sampler did not get there in
                time.
        """
        return self._run(publishing.publish(self._link, name))

    @twin_of(save_weights_and_get_sampling_client)
    async def save_weights_and_get_sampling_client_async(
        self, name: str = "default"
    ) -> SamplingClient:
        return await (await self._run_async(publishing.publish(self._link, name)))

    def create_sampling_client(self, model_path: str) -> SamplingClient:
        """Return a client of the paired sampler that serves the weights at `model_path`.

        It serves them until a newer version than this client has published so far is live, and
        that one from then on.

        Args:
            model_path: `bt://loops:<run_id>/sampler_weights/<name>`.

        Raises:
            UsageError: the path is no such address.
            NotFoundError: there is no such checkpoint.
        """
        return self._run(publishing.open_paired(self._link, model_path))

    @twin_of(create_sampling_client)
    async def create_sampling_client_async(self, model_path: str) -> SamplingClient:
        return await self._run_async(publishing.open_paired(self._link, model_path))

    def list_checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints of this client's run, newest first."""
        self._link.check_open()
        return self._run(checkpoints.listed(self._link.driver, self.run_id))

    def get_checkpoint_archive_url(
        self,
        checkpoint_id: str | None = None,
        page_size: int = 1000,
        page_token: int = 0,
        *,
        name: str | None = None,
        target: CheckpointTarget | str | None = None,
    ) -> CheckpointFilesResponse:
        """Return where a checkpoint's files can be read for a while, one page of them.

        Args:
            checkpoint_id: the checkpoint's `id` or its name. Or pass `name`.
            page_size: most files of the page.
            page_token: the number of the first file; the last page's `next_page_token`.
            name: the name that the checkpoint was saved under, if no id is given.
            target: `trainer` or `sampler`, where two checkpoints share the name.

        Raises:
            UsageError: not exactly one of id and name, or a name that two checkpoints share.
            NotFoundError: there is no such checkpoint.
        """
        self._link.check_open()
        wanted = checkpoints.Wanted.of(checkpoint_id, name, run_id=self.run_id, target=target)
        return self._run(
            checkpoints.page_of_files(
                self._link.driver, wanted, page_size=page_size, page_token=page_token
            )
        )

    def download_checkpoint(
        self,
        checkpoint_id: str | None = None,
        *,
        dest_dir: str | Path,
        name: str | None = None,
        target: CheckpointTarget | str | None = None,
    ) -> CheckpointDownload:
        """Copy a checkpoint's files into an empty or new directory, and return what was written.

        Args:
            checkpoint_id: the checkpoint's `id` or its name. Or pass `name`.
            dest_dir: where to; it is made if it does not exist.
            name: the name that the checkpoint was saved under, if no id is given.
            target: `trainer` or `sampler`, where two checkpoints share the name.

        Raises:
            UsageError: not exactly one of id and name, or a directory that is not empty.
            NotFoundError: there is no such checkpoint.
            CheckpointError: a file is not as the service described it; nothing of it is kept.
            UnsupportedError: the links are of a kind that no installed part can read.
        """
        self._link.check_open()
        wanted = checkpoints.Wanted.of(checkpoint_id, name, run_id=self.run_id, target=target)
        return self._run(checkpoints.download(self._link.driver, wanted, Path(dest_dir)))

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the base model's tokenizer, loaded once.

        Raises:
            UnsupportedError: transformers is not installed.
            NotFoundError: the base model comes without a tokenizer.
        """
        self._link.check_open()
        return self._tokenizers.get()

    def get_info(self) -> GetInfoResponse:
        """Return base model, LoRA rank and maximum length, without asking the service."""
        self._link.check_open()
        base_model = self._link.run.base_model
        return GetInfoResponse(
            model_data=ModelData(model_name=base_model, tokenizer_id=base_model),
            model_name=base_model,
            is_lora=True,
            lora_rank=self._link.lora_rank,
            max_seq_len=self._link.settings.max_seq_len,
        )

    def health(self) -> None:
        """Return if the trainer answers.

        Raises:
            LoopsError: it is unreachable or unhealthy.
        """
        self._link.check_open()
        base_url, base_model = self._link.settings.base_url, self._link.run.base_model
        self._run(send(calls.health(base_url=base_url, run_id=self.run_id, base_model=base_model)))

    def close(self) -> None:
        """End this client and its Weights & Biases run; the trainer and its checkpoints stay.

        May be called twice. The service's transport stays open for the ServiceClient's other
        clients.
        """
        self._run(self._link.close_flow())

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await self._run_async(self._link.close_flow())
