"""Settings of the test run: Hypothesis profiles; no accelerator, no network, nothing at home.

Profiles: `dev` is short and is the default, `ci` is the same on every run and is taken when CI is
set, `deep` is for a long search by hand: `HYPOTHESIS_PROFILE=deep make test`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Read by jax, transformers and wandb when they are imported, so it must be said before any test is.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
# A test run leaves the user's own cache and data alone, and its processes share what they made.
_SCRATCH = Path(__file__).parents[1] / ".pytest_cache" / "loops"
os.environ["LOOPS_CACHE_DIR"] = str(_SCRATCH / "cache")
os.environ["LOOPS_DATA_DIR"] = str(_SCRATCH / "data")
os.environ.pop("LOOPS_BASE_URL", None)

# A first example may pay for a compilation or an import: time is not what these tests are about.
settings.register_profile(
    "dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", parent=settings.get_profile("dev"), max_examples=60, derandomize=True
)
settings.register_profile("deep", parent=settings.get_profile("dev"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests recorded but do not judge."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")
