"""Settings that would break a promise are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loops_core.errors import UsageError
from loops_core.worker.queue_settings import QueueSettings

DEFAULTS = QueueSettings()


@pytest.mark.parametrize("field", ["max_queued", "max_queued_bytes", "snapshot_entries"])
def test_a_bound_below_one_is_refused(field: str) -> None:
    with pytest.raises(UsageError, match=f"{field} is 0: expected 1 or more") as caught:
        replace(DEFAULTS, **{field: 0})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["submit_wait_s", "results_kept_s", "close_wait_s"])
def test_a_negative_time_is_refused(field: str) -> None:
    with pytest.raises(UsageError, match=rf"{field} is -1\.0: expected 0 or more"):
        replace(DEFAULTS, **{field: -1.0})


def test_keys_are_kept_at_least_as_long_as_results() -> None:
    with pytest.raises(UsageError, match="keys_kept_s"):
        QueueSettings(results_kept_s=10, keys_kept_s=9)


def test_results_are_kept_for_an_hour_by_default() -> None:
    assert DEFAULTS.results_kept_s == 3_600
