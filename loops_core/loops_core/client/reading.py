"""What a service client can look at: capabilities, and checkpoints of any run."""

from __future__ import annotations

from abc import ABC
from pathlib import Path

from loops_core.client import calls, checkpoints
from loops_core.client.arguments import check_text
from loops_core.client.drivers import twin_of
from loops_core.client.service_link import ServiceLink
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointDownload,
    CheckpointFilesResponse,
    CheckpointTarget,
)
from loops_core.types.deployment import ServerCapabilities


class ServiceReading(ABC):
    """The part of a service client that changes nothing; `ServiceClient` is the one class of it."""

    _link: ServiceLink

    @property
    def session_id(self) -> str:
        """Return the id of this client's session, which is opened at the first need."""
        return self._link.run(self._link.session())

    def get_server_capabilities(self) -> ServerCapabilities:
        """Return the models that the service can train."""
        return self._link.run(self._link.read(calls.get_capabilities()))

    @twin_of(get_server_capabilities)
    async def get_server_capabilities_async(self) -> ServerCapabilities:
        return await self._link.run_async(self._link.read(calls.get_capabilities()))

    def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """Return the checkpoints of a run, newest first.

        Raises:
            UsageError: `run_id` is no text.
            NotFoundError: there is no such run.
        """
        self._link.check_open()
        check_text("run_id", run_id)
        return self._link.run(checkpoints.listed(self._link.driver, run_id))

    def get_checkpoint_archive_url(
        self,
        checkpoint_id: str | None = None,
        page_size: int = 1000,
        page_token: int = 0,
        *,
        name: str | None = None,
        run_id: str | None = None,
        target: CheckpointTarget | str | None = None,
    ) -> CheckpointFilesResponse:
        """Return where a checkpoint's files can be read for a while, one page of them.

        Args:
            checkpoint_id: the checkpoint's `id`; with `run_id`, its name will do. Or pass `name`.
            page_size: most files of the page.
            page_token: the number of the first file; the last page's `next_page_token`.
            name: the name that the checkpoint was saved under, if no id is given.
            run_id: the run that saved it; a name needs it.
            target: `trainer` or `sampler`, where two checkpoints share the name.

        Raises:
            UsageError: not exactly one of id and name, or a name that two checkpoints share.
            NotFoundError: there is no such checkpoint.
        """
        self._link.check_open()
        wanted = checkpoints.Wanted.of(checkpoint_id, name, run_id=run_id, target=target)
        return self._link.run(
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
        run_id: str | None = None,
        target: CheckpointTarget | str | None = None,
    ) -> CheckpointDownload:
        """Copy a checkpoint's files into an empty or new directory, and return what was written.

        Args:
            checkpoint_id: the checkpoint's `id`; with `run_id`, its name will do. Or pass `name`.
            dest_dir: where to; it is made if it does not exist.
            name: the name that the checkpoint was saved under, if no id is given.
            run_id: the run that saved it; a name needs it.
            target: `trainer` or `sampler`, where two checkpoints share the name.

        Raises:
            UsageError: not exactly one of id and name, or a directory that is not empty.
            NotFoundError: there is no such checkpoint.
            CheckpointError: a file is not as the service described it; nothing of it is kept.
            UnsupportedError: the links are of a kind that no installed part can read.
        """
        self._link.check_open()
        wanted = checkpoints.Wanted.of(checkpoint_id, name, run_id=run_id, target=target)
        return self._link.run(checkpoints.download(self._link.driver, wanted, Path(dest_dir)))
