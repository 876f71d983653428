"""Results that nobody read, gradients that nobody applied, clients that nobody closed."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.watching.loop import ADAM, URL, datum, train

from loops_core import ServiceClient, TrainingClient
from loops_core.errors import RemoteOpError, UsageError
from loops_mock.watching import Mistake, Watch

DATA = [datum([1, 2, 3, 4])]


def test_a_future_that_is_never_read_is_found_with_its_line(
    watch: Watch, trainer: TrainingClient
) -> None:
    trainer.forward_backward(DATA).result()
    trainer.optim_step(ADAM)
    (finding,) = watch.findings()
    assert (finding.mistake, finding.operation) == (Mistake.FUTURE_NOT_READ, "optim_step")
    assert finding.place is not None
    assert finding.place.file == __file__
    assert "optim_step #1" in finding.message
    assert "test_lifetimes.py:" in finding.message
    with pytest.raises(AssertionError, match="nobody read the result of optim_step #1"):
        watch.assert_all_futures_read()


def test_every_way_of_reading_a_future_counts(watch: Watch, trainer: TrainingClient) -> None:
    trainer.forward_backward(DATA).result()
    assert trainer.optim_step(ADAM).exception() is None
    saved = trainer.save_state("a")
    while not saved.done():
        pass
    with pytest.raises(RemoteOpError):
        trainer.optim_step(ADAM).result()
    watch.assert_all_futures_read()


async def test_a_future_that_is_awaited_counts_as_read(watch: Watch) -> None:
    async with ServiceClient(base_url=URL) as service:
        trainer = await service.create_lora_training_client_async("mock-tiny", rank=2, seed=0)
        await (await trainer.forward_async(DATA))
    watch.assert_clean()


def test_unread_futures_can_be_allowed_by_operation(watch: Watch, trainer: TrainingClient) -> None:
    trainer.forward_backward(DATA).result()
    trainer.optim_step(ADAM)
    watch.assert_all_futures_read(allow=("optim_step",))
    watch.assert_clean(allow=("future-not-read:optim_step",))
    watch.assert_clean(allow="future-not-read")
    with pytest.raises(AssertionError):
        watch.assert_clean(allow=("future-not-read:forward",))


@pytest.mark.parametrize("entry", ["future", "future-not-read:optim", "", ":sample"])
def test_an_allowance_that_allows_nothing_is_refused(watch: Watch, entry: str) -> None:
    with pytest.raises(UsageError, match="expected one of"):
        watch.assert_clean(allow=(entry,))


def test_gradients_without_a_step_are_found(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, DATA)
    watch.assert_gradients_applied()
    trainer.forward_backward(DATA).result()
    with pytest.raises(AssertionError, match=r"gradients of forward_backward #2 .* never applied"):
        watch.assert_gradients_applied()


def test_gradients_that_a_load_throws_away_are_found(watch: Watch, trainer: TrainingClient) -> None:
    path = trainer.save_state("a").result().path
    trainer.forward_backward(DATA).result()
    trainer.load_state_with_optimizer(path).result()
    with pytest.raises(AssertionError, match=r"thrown away by load_state_with_optimizer #1"):
        watch.assert_gradients_applied()


def test_gradients_add_up_until_one_step(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, DATA, [datum([4, 3, 2])], [datum([9, 9])])
    watch.assert_clean()


def test_a_pass_that_failed_left_no_gradients(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, DATA)
    future = trainer.forward_backward(DATA, loss_fn="cross_entropy")
    assert future.cancel() or future.exception() is None
    train(trainer, DATA)
    watch.assert_gradients_applied()


def test_a_client_that_is_left_open_is_found(watch: Watch) -> None:
    service = ServiceClient(base_url=URL)
    with pytest.raises(AssertionError, match=r"inproc:mock.* was never closed"):
        watch.assert_clients_closed()
    service.close()
    watch.assert_clients_closed()


def test_closing_the_service_closes_its_training_clients(watch: Watch) -> None:
    with ServiceClient(base_url=URL) as service:
        service.create_lora_training_client("mock-tiny", rank=2, seed=0)
    watch.assert_clients_closed(trainers=True)


def test_a_lent_client_need_not_be_closed_but_training_clients_of_it_can_be_asked_for(
    watch: Watch,
) -> None:
    with watch.lending():
        service = ServiceClient(base_url=URL)
    trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
    watch.assert_clients_closed()
    with pytest.raises(AssertionError, match="the TrainingClient of run"):
        watch.assert_clients_closed(trainers=True)
    trainer.close()
    watch.assert_clients_closed(trainers=True)
    service.close()
