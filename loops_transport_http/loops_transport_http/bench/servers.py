"""The servers that are measured: `loops serve` in a process of its own, on a free port."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from loops_transport_http.bench import instant
from loops_transport_http.bench.processes import Child

_METADATA: Final = "Metadata-Version: 2.1\nName: loops-bench-instant\nVersion: 0\n"
_ENTRY_POINT: Final = f"[loops]\ninstant = {instant.__name__}\n"


@dataclass(frozen=True, slots=True)
class Server:
    """A running `loops serve`."""

    child: Child
    gate: Path

    @property
    def url(self) -> str:
        """Return its address."""
        return cast("str", self.child.started["url"])

    @property
    def api_key(self) -> str:
        """Return its key."""
        return cast("str", self.child.started["api_key"])

    @property
    def headers(self) -> Mapping[str, str]:
        """Return what a raw request has to carry."""
        return {"Authorization": f"Bearer {self.api_key}"}

    def trainer_url(self, run_id: str) -> str:
        """Return where a run's trainer answers."""
        return f"{self.url}/trainers/{run_id}"

    def rss_mib(self) -> float:
        """Return the memory that the process has resident, in MiB."""
        return self.child.rss_mib()

    def open_gate(self) -> None:
        """Let held passes of the instant backend go on."""
        self.gate.touch()


@contextmanager
def open_server(
    *, backend: str, base_model: str, in_memory: bool = False, options: Sequence[str] = ()
) -> Generator[Server]:
    """Yield a server of a backend, its log in a file or in memory; it ends with the block.

    Args:
        backend: the backend's name.
        base_model: the one model that is served.
        in_memory: whether the log is in memory.
        options: further options of `loops serve`.
    """
    with tempfile.TemporaryDirectory(prefix="loops-bench-") as folder:
        gate, site = Path(folder) / "gate", Path(folder) / "site"
        _install(site)
        served = ["--backend", backend, "--base-model", base_model, "--port", "0", "--json"]
        command = [sys.executable, "-m", "loops_core.cli", "serve", *served, *options]
        path = os.pathsep.join(_present([str(site), os.environ.get("PYTHONPATH")]))
        env = {"PYTHONPATH": path, instant.GATE: str(gate)}
        data_dir = ":memory:" if in_memory else f"{folder}/data"
        with Child([*command, "--data-dir", data_dir], env=env) as child:
            server = Server(child, gate)
            try:
                yield server
            finally:
                server.open_gate()  # a held pass would hold up the end


@contextmanager
def open_instant_server(*, options: Sequence[str] = ()) -> Generator[Server]:
    """Yield a server of the instant backend, its gate closed."""
    with open_server(backend=instant.NAME, base_model=instant.NAME, options=options) as server:
        yield server


def allow_connections(count: int) -> bool:
    """Raise this process's bound of open files, which servers inherit; tell whether it suffices."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 512
    if soft < wanted and (hard == resource.RLIM_INFINITY or hard >= wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return True
    return soft >= wanted


def _install(site: Path) -> None:
    """Make the instant backend an installed plugin of whoever has `site` on the import path."""
    folder = site / "loops_bench_instant-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(_METADATA)
    (folder / "entry_points.txt").write_text(_ENTRY_POINT)


def _present(values: Sequence[str | None]) -> list[str]:
    return [value for value in values if value]
