"""The quickstart as a command: runs the job, shows the closing table, answers with an exit code."""

from __future__ import annotations

from pathlib import Path

from loops_core.clock import Clock, SystemClock
from loops_core.quickstart.display import Display
from loops_core.quickstart.job import QuickstartResult, run_quickstart
from loops_core.quickstart.output import OutputFiles
from loops_core.quickstart.settings import QuickstartSettings


def run_command(settings: QuickstartSettings, *, clock: Clock | None = None) -> int:
    """Return 0 after a good run, 1 after one that did not show what it promises."""
    from rich.console import Console

    display = Display(Console())
    result = run_quickstart(settings, display, clock=clock or SystemClock())
    show_result(display, result, OutputFiles(settings.output.absolute()))
    for failure in result.failures:
        Display(Console(stderr=True, style="red")).say(f"loops: {failure}")
    return 1 if result.failures else 0


def show_result(display: Display, result: QuickstartResult, files: OutputFiles) -> None:
    """Show the closing table: the key figures, and where everything was written."""
    losses, proof = result.losses, result.proof
    exact = "bit for bit" if proof.is_exact else "NO: " + ", ".join(proof.differences)
    rows = [
        ("first loss", f"{losses.first:.4f}"),
        ("mean of the last five", f"{losses.last:.4f}"),
        ("ratio", f"{losses.ratio:.4f}"),
        ("tokens per second", f"{result.tokens_per_second:,.0f}"),
        ("checkpoint resumes", f"{exact} ({len(proof.trained_on.losses)} steps compared)"),
        ("checkpoint", result.checkpoint),
        ("metrics", _shown(files.metrics)),
        ("loss curve", _shown(files.loss_curve)),
        ("answers", _shown(files.samples)),
        ("adapter (PEFT)", _shown(files.adapter)),
        ("seconds", f"{result.seconds:.1f}"),
    ]
    display.table("what came of it", rows)


def _shown(path: Path) -> str:
    """Return the path as it is shortest from the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
