"""A trainer that shuts down when it is idle hears from its client as long as that is open."""

from __future__ import annotations

import threading

import pytest
from tests.unit.loops_core.client.control import Control
from tests.unit.loops_core.client.fakes import plugins_with

from loops_core.client.service import ServiceClient
from loops_core.errors import UnreachableError
from loops_core.types.base import WireModel
from loops_core.types.deployment import Empty
from loops_core.types.routes import Call

SOON_S = 0.001
PATIENCE_S = 30.0


class Beats:
    """Counts health calls, and fails the first few."""

    def __init__(self, *, fails: range = range(0)) -> None:
        self._fails = fails
        self._count = 0
        self._changed = threading.Condition()

    def __call__(self, _: Call[WireModel]) -> WireModel:
        with self._changed:
            self._count += 1
            self._changed.notify_all()
            if self._count in self._fails:
                raise UnreachableError("broke")
        return Empty()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, PATIENCE_S)


def heartbeats() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "loops-heartbeat" and t.is_alive()]


def live(control: Control, beats: Beats, count: int) -> None:
    """Open a training client, wait for some beats, and close it."""
    control.service.answers["health"] = beats
    with (
        ServiceClient(base_url="fake:", plugins=plugins_with([control])) as service,
        service.create_lora_training_client("tiny"),
    ):
        beats.wait_for(count)
        threads = heartbeats()
    for thread in threads:
        thread.join(PATIENCE_S)


def test_an_open_client_beats_and_a_closed_one_does_not() -> None:
    control = Control()
    control.service.heartbeat = SOON_S
    live(control, Beats(), 7)
    assert not heartbeats()


def test_beats_go_on_after_failures_and_the_user_hears_of_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    control = Control()
    control.service.heartbeat = SOON_S
    live(control, Beats(fails=range(2, 9)), 12)  # the first asks whether the trainer is ready
    assert len([r for r in caplog.records if "signs of life" in r.message]) == 1


def test_a_service_that_wants_none_gets_none() -> None:
    control = Control()
    live(control, Beats(), 1)
    assert len(control.service.sent("health")) == 1
