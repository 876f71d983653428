"""What a process holds: descriptors, sockets, threads, memory; read from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

IS_READABLE: Final = Path("/proc/self/fd").is_dir()
NEEDS_PROC: Final = "needs /proc to count another process's descriptors and threads"


@final
@dataclass(frozen=True, slots=True)
class Holdings:
    """What must be given back: counts that are compared before and after."""

    descriptors: int
    threads: int


@final
@dataclass(frozen=True, slots=True)
class Gauge:
    """Reads what one process holds."""

    pid: int

    @classmethod
    def here(cls) -> Gauge:
        """Return the gauge of this process."""
        return cls(os.getpid())

    def holdings(self) -> Holdings:
        """Return the counts of descriptors and threads."""
        return Holdings(len(self._targets()), self.num_threads())

    def num_threads(self) -> int:
        """Return how many threads there are."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def num_sockets(self) -> int:
        """Return how many sockets are open: the listening one and each connection."""
        return sum(target.startswith("socket:") for target in self._targets())

    def rss_mib(self) -> float:
        """Return the resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def peak_rss_mib(self) -> float:
        """Return the most memory that was resident at once since `reset_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def reset_peak(self) -> None:
        """Measure the peak from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _targets(self) -> list[str]:
        """Return what each descriptor stands for."""
        targets: list[str] = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                targets.append(str(link.readlink()))
            except FileNotFoundError:  # closed while we looked, as our own listing's is
                continue
        return targets


def until(is_true: Callable[[], bool], turn: Callable[[], object], *, turns: int = 5_000) -> bool:
    """Return whether something became true within so many turns of the other side."""
    for _ in range(turns):
        if is_true():
            return True
        turn()
    return False
