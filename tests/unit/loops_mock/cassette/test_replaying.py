"""A run is recorded once and replayed without its service."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
from tests.unit.loops_mock.cassette.program import (
    MOCK,
    NOWHERE,
    crowd,
    make_datum,
    recorded,
    train,
)

from loops_core import AdamParams, ForwardBackwardFuture, ServiceClient
from loops_core.errors import LoopsError, NotFoundError, RemoteOpError, UsageError
from loops_mock.cassette import record, replay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.loops"


def test_a_replay_says_what_the_run_said(path: Path) -> None:
    said = recorded(path)
    with replay(path):
        assert train(NOWHERE) == said


def test_a_url_names_a_cassette_as_a_service(path: Path) -> None:
    said = recorded(path)
    assert train(f"cassette:{path}") == said
    assert train(f"cassette:{path}") == said, "a client that is opened later plays from the start"


def test_a_recording_changes_nothing(path: Path) -> None:
    plain = train(MOCK)
    assert recorded(path)[:-1] == plain[:-1]


async def test_an_asynchronous_program_is_replayed(path: Path) -> None:
    async def steps(url: str) -> list[float]:
        async with ServiceClient(base_url=url) as service:
            trainer = await service.create_lora_training_client_async("mock-tiny", rank=4, seed=0)
            passes = [await trainer.forward_backward_async([make_datum(n)]) for n in range(3)]
            return [(await future).loss for future in reversed(passes)]

    with record(path):
        said = await steps(MOCK)
    assert await steps(f"cassette:{path}") == said


@pytest.mark.slow
def test_order_and_threads_change_nothing(path: Path) -> None:
    numbers = list(range(60))
    with record(path):
        said = crowd(MOCK, threads=1, order=numbers)
    for seed in range(3):
        order = random.Random(seed).sample(numbers, len(numbers))
        assert crowd(f"cassette:{path}", threads=64, order=order) == said


def test_runs_that_were_made_in_another_order_keep_their_results(path: Path) -> None:
    def two_runs(url: str, order: list[int]) -> dict[int, object]:
        with ServiceClient(base_url=url) as service:
            clients = {n: service.create_lora_training_client("mock-tiny", rank=4) for n in order}
            said: dict[int, object] = {}
            for n in order:
                trainer = clients[n]
                loss = trainer.forward_backward([make_datum(n)]).result().loss
                step = trainer.optim_step(AdamParams()).result()
                saved = trainer.save_state("end").result()
                trainer.load_state(saved.path).result()
                names = [each.run_id == trainer.run_id for each in trainer.list_checkpoints()]
                said[n] = (loss, step, names, str(trainer.run_id) in saved.path)
            return said

    with record(path):
        said = two_runs(MOCK, [1, 2, 3])
    for order in ([3, 2, 1], [2, 1, 3], [3, 1, 2]):
        assert two_runs(f"cassette:{path}", order) == said


def test_it_does_not_matter_whose_session_a_run_is_of(path: Path) -> None:
    def two_services(url: str, order: list[int]) -> dict[int, float]:
        with ServiceClient(base_url=url) as one, ServiceClient(base_url=url) as other:
            services, said = (one, other), dict[int, float]()
            for n in order:
                trainer = services[n].create_lora_training_client("mock-tiny", rank=n + 1, seed=0)
                said[n] = trainer.forward([make_datum(n)]).result().loss
            return said

    with record(path):
        said = two_services(MOCK, [0, 1])
    assert two_services(f"cassette:{path}", [1, 0]) == said


def test_calls_that_say_the_same_are_answered_in_their_order(path: Path) -> None:
    def losses(url: str) -> list[float]:
        with ServiceClient(base_url=url) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
            futures: list[ForwardBackwardFuture] = []
            for _ in range(4):
                futures.append(trainer.forward_backward([make_datum(0)]))
                trainer.optim_step(AdamParams(learning_rate=0.05)).result()
            return [future.result().loss for future in reversed(futures)]

    with record(path):
        said = losses(MOCK)
    assert len(set(said)) == 4
    assert losses(f"cassette:{path}") == said


def test_a_repeated_key_is_the_same_call(path: Path) -> None:
    def twice(url: str) -> list[str]:
        with ServiceClient(base_url=url) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
            futures = [
                trainer.forward_backward([make_datum(0)], idempotency_key=key)
                for key in ("a", "a", "b")
            ]
            return [future.operation_id for future in futures]

    with record(path):
        said = twice(MOCK)
    assert said[0] == said[1] != said[2]
    assert twice(f"cassette:{path}") == said


def test_what_failed_fails_again(path: Path) -> None:
    def failures(url: str) -> list[tuple[type, str]]:
        seen: list[pytest.ExceptionInfo[LoopsError]] = []
        with ServiceClient(base_url=url) as service:
            with pytest.raises(NotFoundError) as missing:
                service.create_lora_training_client("no-such-model")
            trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
            with pytest.raises(UsageError) as refused:
                trainer.forward_backward([make_datum(0)], "no_such_loss")
            with pytest.raises((RemoteOpError, NotFoundError)) as failed:
                trainer.load_state(f"bt://loops:{trainer.run_id}/weights/none").result()
            seen += [missing, refused, failed]
        return [(each.type, each.value.message) for each in seen]

    with record(path):
        said = failures(MOCK)
    assert failures(f"cassette:{path}") == said


def test_an_unknown_call_is_refused_with_what_comes_nearest(path: Path) -> None:
    recorded(path)
    with ServiceClient(base_url=f"cassette:{path}") as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        data = [make_datum(10), make_datum(11)]
        data[1].loss_fn_inputs["weights"].data[5] = 0.125
        with pytest.raises(NotFoundError) as refused:
            trainer.forward_backward(data)
    message = refused.value.message
    assert "data[1].loss_fn_inputs.weights.data[5]" in message
    assert "0.125 was sent" in message
    assert refused.value.kind == "recorded call"


def test_a_call_more_than_were_recorded_is_refused(path: Path) -> None:
    recorded(path, steps=1)
    with ServiceClient(base_url=f"cassette:{path}") as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        trainer.optim_step(AdamParams(learning_rate=1e-2)).result()
        with pytest.raises(NotFoundError, match="recorded 1 times"):
            trainer.optim_step(AdamParams(learning_rate=1e-2))


def test_a_result_that_nobody_read_is_refused_by_name(path: Path) -> None:
    with record(path), ServiceClient(base_url=MOCK) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        trainer.forward_backward([make_datum(0)])
    with ServiceClient(base_url=f"cassette:{path}") as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        unread = trainer.forward_backward([make_datum(0)])
        with pytest.raises(NotFoundError, match="no result of operation"):
            unread.result()


def test_an_unknown_call_is_passed_on_only_when_asked(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(path, steps=1)
    with replay(path, unknown="pass"), caplog.at_level(logging.WARNING):
        known = train(MOCK, steps=1)
        assert not caplog.records, "what is on the cassette is not passed on"
        assert train(MOCK, steps=1, rank=2) != known
    assert "passed on to the live service: create_trainer is not on the cassette" in caplog.text
    live = train(f"cassette:{path}?live={MOCK.replace('?', '%3F')}", steps=1, rank=2)
    assert live[:-1] == train(MOCK, steps=1, rank=2)[:-1]


def test_checkpoints_are_downloaded_again(path: Path, tmp_path: Path) -> None:
    def save(url: str, folder: Path) -> dict[str, bytes]:
        with ServiceClient(base_url=url) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
            trainer.save_state("kept").result()
            trainer.download_checkpoint(name="kept", dest_dir=folder)
        return {each.name: each.read_bytes() for each in folder.iterdir()}

    with record(path):
        said = save(MOCK, tmp_path / "first")
    assert save(f"cassette:{path}", tmp_path / "second") == said
    small = tmp_path / "small.loops"
    with record(small, most_download_bytes=10):
        save(MOCK, tmp_path / "third")
    with pytest.raises(NotFoundError, match="larger than 10 bytes"):
        save(f"cassette:{small}", tmp_path / "fourth")


def test_readings_follow_what_changed(path: Path) -> None:
    recorded(path, steps=2)
    with ServiceClient(base_url=f"cassette:{path}") as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
        assert [trainer.policy_version for _ in range(3)] == [0, 0, 0]
        trainer.save_weights_and_get_sampling_client("v0").result()
        assert [trainer.policy_version for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("url", ["cassette:", "cassette:x?speed=2", "cassette:x?live="])
def test_a_url_that_names_no_cassette_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected cassette:PATH"):
        ServiceClient(base_url=url)
