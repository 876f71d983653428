"""Carriers lose, cut and alter what they say they do, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from loops_core.errors import BusyError, UnreachableError
from loops_core.plugins import Plugins
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.routes import Call
from loops_mock.contract.carriers import (
    AsksForVersion,
    Carrier,
    HastyClock,
    LosesAnswers,
    SmallBodies,
)
from loops_mock.contract.probes import BATCH, draw, publish
from loops_mock.contract.subject import Subject
from loops_mock.contract.target import Target

URL = "inproc:mock?data_dir=:memory:"
ASK = Call(route=routes.GET_CAPABILITIES, timeout_s=60.0)


@pytest.fixture
def below() -> Iterator[Transport]:
    opened = Plugins.load().open_transport(URL)
    yield opened
    opened.close()


@pytest.fixture
def subject() -> Iterator[Subject]:
    with Target(URL) as target, target.subject() as opened:
        yield opened


def asked(subject: Subject, name: str) -> list[str]:
    return [made.asked for made in subject.calls if made.asked.startswith(f"{name}(")]


def test_answers_are_lost_as_often_as_said_and_of_one_route_alone(below: Transport) -> None:
    carrier = LosesAnswers(below, "get_capabilities", times=2)
    for _ in range(2):
        with pytest.raises(UnreachableError, match="lost"):
            carrier.send(ASK)
    assert carrier.send(ASK).supported_models
    assert carrier.num_lost == 2
    assert LosesAnswers(below, "sample").send(ASK).supported_models


def test_an_answer_is_lost_on_an_event_loop_too_with_the_error_that_was_given(
    below: Transport,
) -> None:
    busy: Callable[[], BusyError] = lambda: BusyError("full", retry_after_s=1.0)  # noqa: E731
    carrier = LosesAnswers(below, "get_capabilities", error=busy)
    with pytest.raises(BusyError, match="full"):
        asyncio.run(carrier.send_async(ASK))
    assert asyncio.run(carrier.send_async(ASK)).supported_models


def test_a_call_whose_answer_is_lost_has_arrived(subject: Subject) -> None:
    service = subject.service_over(
        lambda below: LosesAnswers(below, "create_trainer", times=2), clock=HastyClock()
    )
    trainer = service.create_lora_training_client(subject.base_model, rank=1)
    assert len(asked(subject, "create_trainer")) == 3
    assert set(subject.log.run_ids) == {trainer.run_id}


def test_small_bodies_split_a_batch_that_is_one_request_without_them(subject: Subject) -> None:
    service = subject.service_over(lambda below: SmallBodies(below, max_bytes=2200))
    small = service.create_lora_training_client(subject.base_model, rank=1)
    small.forward([*BATCH, *BATCH]).result()
    assert len(asked(subject, "forward")) > 1
    subject.trainer(rank=1).forward([*BATCH, *BATCH]).result()
    assert any(len(line) > 350 for line in asked(subject, "forward"))


def test_samples_ask_for_the_version_and_other_calls_do_not(subject: Subject) -> None:
    carriers: list[AsksForVersion] = []

    def wrap(below: Transport) -> AsksForVersion:
        carriers.append(AsksForVersion(below))
        return carriers[0]

    trainer = subject.service_over(wrap).create_lora_training_client(subject.base_model, rank=1)
    publish(trainer)
    sampler = publish(trainer)
    draw(sampler, seed=1)
    carriers[0].floor = 1
    draw(sampler, seed=1)
    trainer.health()
    assert ["=2" in line for line in asked(subject, "sample")] == [True, False]
    assert "min_policy_version=1" in asked(subject, "sample")[1]
    assert not [line for line in asked(subject, "health") if "version" in line]


def test_a_carrier_hands_on_everything_else(below: Transport) -> None:
    carrier = Carrier(below)
    assert carrier.body_limits(None) == below.body_limits(None)
    assert carrier.heartbeat_s(None) == below.heartbeat_s(None)
    assert carrier.repeats_creates == below.repeats_creates


def test_a_hasty_clock_counts_what_it_does_not_sleep() -> None:
    clock = HastyClock()
    before, wall = clock.monotonic(), clock.now()
    clock.sleep(1000.0)
    asyncio.run(clock.sleep_async(1000.0))
    assert 2000.0 <= clock.monotonic() - before < 2100.0
    assert clock.now() - wall >= 2000.0
