"""Batches in parts: nothing is made of them before they are whole, and then one body is."""

from __future__ import annotations

import pytest
from tests.recovery.toy import FakeClock

from loops_core.errors import BusyError, UsageError
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.operation import ForwardBody
from loops_core.types.routes import BatchPart
from loops_core.worker.parts import KEPT_S, MOST_PARTS, PartsDesk


def body_of(*tokens: int, loss_fn: str = "cross_entropy") -> ForwardBody:
    data = [Datum(model_input=ModelInput.from_ints([token])) for token in tokens]
    return ForwardBody(data=data, loss_fn=loss_fn)


def tokens_of(body: ForwardBody) -> list[int]:
    return [token for datum in body.data for token in datum.model_input.to_ints()]


@pytest.fixture
def desk(fake_clock: FakeClock) -> PartsDesk:
    return PartsDesk(fake_clock, max_bytes=10_000)


def test_a_batch_is_whole_in_order_however_its_parts_arrived(desk: PartsDesk) -> None:
    assert desk.add("r", "k", BatchPart(2, 3), body_of(5)) == [0, 1]
    assert desk.add("r", "k", BatchPart(0, 3), body_of(1, 2)) == [1]
    assert desk.add("r", "k", BatchPart(0, 3), body_of(1, 2)) == [1]  # a repeat
    assert desk.add("r", "k", BatchPart(1, 3), body_of(3, 4)) == []
    assert tokens_of(desk.join("r", "k")) == [1, 2, 3, 4, 5]


def test_batches_of_other_keys_and_runs_are_other_batches(desk: PartsDesk) -> None:
    desk.add("r", "k", BatchPart(0, 2), body_of(1))
    assert desk.add("r", "other", BatchPart(1, 2), body_of(2)) == [0]
    assert desk.add("s", "k", BatchPart(1, 2), body_of(3)) == [0]


def test_what_was_discarded_or_lay_too_long_is_asked_for_again(
    desk: PartsDesk, fake_clock: FakeClock
) -> None:
    desk.add("r", "k", BatchPart(0, 2), body_of(1))
    desk.discard("r", "k")
    assert desk.add("r", "k", BatchPart(1, 2), body_of(2)) == [0]
    fake_clock.advance(KEPT_S + 1)
    assert desk.add("r", "k", BatchPart(0, 2), body_of(1)) == [1]


def test_parts_have_room_up_to_the_bound(fake_clock: FakeClock) -> None:
    desk = PartsDesk(fake_clock, max_bytes=1_000)
    large = body_of(*range(20))
    desk.add("r", "k", BatchPart(0, 2), body_of(1))
    with pytest.raises(BusyError, match="no room") as caught:
        desk.add("r", "k", BatchPart(1, 2), large)
    assert caught.value.retry_after_s
    desk.discard("r", "k")
    desk.add("r", "other", BatchPart(0, 2), body_of(1))


@pytest.mark.parametrize("part", [BatchPart(2, 2), BatchPart(-1, 2), BatchPart(0, 0)])
def test_numbers_that_make_no_sense_are_refused(desk: PartsDesk, part: BatchPart) -> None:
    with pytest.raises(UsageError, match=f"at most {MOST_PARTS}"):
        desk.add("r", "k", part, body_of(1))


def test_parts_that_contradict_each_other_are_refused(desk: PartsDesk) -> None:
    desk.add("r", "k", BatchPart(0, 2), body_of(1))
    with pytest.raises(UsageError, match="has 3 parts, an earlier one said 2"):
        desk.add("r", "k", BatchPart(1, 3), body_of(2))
    desk.add("r", "k", BatchPart(1, 2), body_of(2, loss_fn="ppo"))
    with pytest.raises(UsageError, match="other settings"):
        desk.join("r", "k")
