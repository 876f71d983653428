"""What a watch sees, and that it changes nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.loops_mock.watching.loop import ADAM, URL, batch_of, datum, draw, publish, train

from loops_core import ServiceClient, TrainingClient
from loops_core.errors import RemoteOpError, UsageError
from loops_mock.watching import Watch


def weights_after(steps: int) -> list[float]:
    """Return the losses of a small loop, its samples included."""
    with ServiceClient(base_url=URL) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
        losses: list[float] = []
        for step in range(steps):
            passed = trainer.forward_backward(batch_of(draw(publish(trainer), seed=step)))
            trainer.optim_step(ADAM).result()
            losses.append(passed.result().loss)
        return losses


def test_a_watched_loop_gives_the_same_numbers() -> None:
    alone = weights_after(2)
    with Watch() as watch:
        assert weights_after(2) == alone
    watch.assert_clean()


def test_what_was_open_before_is_not_seen() -> None:
    with ServiceClient(base_url=URL) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
        with Watch() as watch:
            trainer.forward_backward([datum([1, 2])])
    assert not watch.events()


def test_what_is_opened_afterwards_is_not_seen() -> None:
    with Watch() as watch:
        pass
    with ServiceClient(base_url=URL) as service:
        service.create_lora_training_client("mock-tiny", rank=2, seed=0)
    assert not watch.events()


def test_what_was_opened_within_is_seen_to_its_end() -> None:
    with Watch() as watch:
        service = ServiceClient(base_url=URL)
    assert watch.findings()
    service.close()
    watch.assert_clean()


def test_watches_may_overlap(watch: Watch) -> None:
    with Watch() as inner, ServiceClient(base_url=URL) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
        trainer.forward([datum([1, 2])])
    for each in (watch, inner):
        assert [finding.operation for finding in each.findings()] == ["forward"]


def test_threads_are_seen(watch: Watch, trainer: TrainingClient) -> None:
    def score(token: int) -> None:
        trainer.forward([datum([token, 1])]).result()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(score, range(8)))
    assert sum("forward #" in line for line in watch.last_calls(1000)) == 8
    watch.assert_clean()


def test_last_calls_name_operation_and_line(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, [datum([1, 2])])
    lines = watch.last_calls(3)
    assert lines[0].startswith("...")
    assert len(lines) == 4
    assert any("read an outcome: done" in line and "loop.py" in line for line in lines)


def test_a_refused_call_is_seen_with_its_error(watch: Watch, trainer: TrainingClient) -> None:
    with pytest.raises(UsageError):
        trainer.forward_backward([datum([1, 2])], loss_fn="no_such_loss").result()
    assert "forward_backward raised UsageError" in watch.last_calls(1)[-1]
    watch.assert_clean()


def test_a_failed_operation_is_seen_with_its_error(watch: Watch, trainer: TrainingClient) -> None:
    with pytest.raises(RemoteOpError):
        trainer.optim_step(ADAM).result()
    assert "failed with" in watch.last_calls(1)[-1]


def test_the_line_is_the_callers_in_a_coroutine_too(watch: Watch) -> None:
    async def loop() -> None:
        async with ServiceClient(base_url=URL) as service:
            trainer = await service.create_lora_training_client_async("mock-tiny", rank=2)
            await trainer.forward_async([datum([1, 2])])

    asyncio.run(loop())
    (finding,) = watch.findings()
    assert finding.place is not None
    assert finding.place.function == "loop"


def test_an_assertion_shows_ten_findings_and_counts_the_others(
    watch: Watch, trainer: TrainingClient
) -> None:
    for n in range(12):
        trainer.forward([datum([n, 1])])
    with pytest.raises(AssertionError, match="12 mistakes") as caught:
        watch.assert_clean()
    assert "and 2 more" in str(caught.value)
