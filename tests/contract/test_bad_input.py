"""Bad input gets a typed error that names the argument, and leaves the state as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pytest
from tests.contract.conftest import ADAM, make_datum

from loops_core import AdamParams, Datum, ModelInput, TensorData, TrainingClient
from loops_core.errors import LoopsError, NotFoundError, RemoteOpError, UsageError

Act = Callable[[TrainingClient], object]

TOKENS: Final = [3, 4, 5, 6]


@dataclass(frozen=True, slots=True)
class Case:
    """A wrong call.

    Attributes:
        act: makes the call.
        says: what the message must contain: the argument, the value, what was expected.
    """

    act: Act
    says: tuple[str, ...]


def _train(
    *data: Datum, loss_fn: str = "cross_entropy", config: dict[str, float] | None = None
) -> Act:
    return lambda client: client.forward_backward(list(data), loss_fn, config)


def _with(name: str, tensor: TensorData) -> Datum:
    datum = make_datum(TOKENS)
    return datum.model_copy(update={"loss_fn_inputs": {**datum.loss_fn_inputs, name: tensor}})


def _weights(*values: float) -> Datum:
    return _with("weights", TensorData.from_list(list(values)))


AT_THE_CALL: Final = {
    "empty data": Case(_train(), ("data", "empty", "at least one")),
    "not a list of datums": Case(
        lambda client: client.forward_backward([object()]),  # type: ignore[list-item]  # the defect
        ("data[0]", "Datum", "object"),
    ),
    "unknown loss": Case(
        _train(make_datum(TOKENS), loss_fn="cros_entropy"),
        ("loss_fn", "'cros_entropy'", "did you mean 'cross_entropy'"),
    ),
    "unknown config key": Case(
        _train(make_datum(TOKENS), config={"skip_normalization": 1.0}),
        ("loss_fn_config", "'skip_normalization'", "skip_token_normalization"),
    ),
    "config value of the wrong type": Case(
        _train(make_datum(TOKENS), config={"skip_token_normalization": 3.5}),
        ("skip_token_normalization", "3.5", "true or false"),
    ),
    "token outside the vocabulary": Case(
        _train(make_datum([3, 10**6, 4])), ("model_input", "1000000", "expected a token id from 0")
    ),
    "negative token": Case(_train(make_datum([3, -7, 4])), ("-7", "expected a token id from 0")),
    "token beyond 64 bits": Case(
        _train(Datum(model_input=ModelInput.from_ints([2**70, 4]))), (str(2**70), "token id")
    ),
    "target outside the vocabulary": Case(
        _train(_with("target_tokens", TensorData.from_list([4, 10**6, 6], dtype="int64"))),
        ("target_tokens", "1000000", "expected a token id from 0"),
    ),
    "no tokens": Case(_train(Datum(model_input=ModelInput.empty())), ("0 positions", "expected 1")),
    "sequence beyond the maximum": Case(
        _train(make_datum([3] * 200_001)), ("model_input", "200000 positions", "expected 1 to")
    ),
    "targets of another length": Case(
        _train(_with("target_tokens", TensorData.from_list([4, 5], dtype="int64"))),
        ("target_tokens", "(2,)", "expected (3,)"),
    ),
    "targets of a wrong dtype": Case(
        _train(_with("target_tokens", TensorData.from_list([4.0, 5.0, 6.0]))),
        ("target_tokens", "int64", "float32"),
    ),
    "ragged batch of target shapes": Case(
        _train(
            make_datum(TOKENS),
            _with("target_tokens", TensorData.from_numpy(np.full((3, 2), 4, dtype=np.int64))),
        ),
        ("data", "(N,)", "(N, K)"),
    ),
    "weights of another shape": Case(
        _train(_weights(1.0, 2.0)), ("weights", "(2,)", "expected (3,)")
    ),
    "NaN weight": Case(
        _train(_weights(1.0, float("nan"), 2.0)), ("weights", "[1]", "nan", "finite")
    ),
    "infinite weight": Case(
        _train(_weights(1.0, float("inf"), 2.0)), ("weights", "[1]", "inf", "finite")
    ),
    "unknown input": Case(
        _train(_with("wieghts", TensorData.from_list([1.0, 1.0, 1.0]))),
        ("wieghts", "did you mean 'weights'"),
    ),
    "top_k_logprobs out of range": Case(
        lambda client: client.forward([make_datum(TOKENS)], top_k_logprobs=21),
        ("top_k_logprobs", "21"),
    ),
    "rank 0": Case(lambda client: client.init_trainer_server(0), ("lora_rank", "not 0")),
    "negative rank": Case(lambda client: client.init_trainer_server(-3), ("lora_rank", "not -3")),
    "checkpoint name with path characters": Case(
        lambda client: client.save_state("../escape"), ("name", "'../escape'", "letters")
    ),
    "checkpoint name with a dot first": Case(
        lambda client: client.save_weights_for_sampler(".hidden"), ("name", "'.hidden'", "dot")
    ),
    "empty checkpoint name": Case(lambda client: client.save_state(""), ("name", "''")),
    "ttl_seconds 0": Case(
        lambda client: client.save_state("fine", ttl_seconds=0), ("ttl_seconds", "0")
    ),
    "not Adam's settings": Case(
        lambda client: client.optim_step({"learning_rate": 1.0}),  # type: ignore[arg-type]  # the defect
        ("adam_params", "AdamParams"),
    ),
}

IN_THE_RESULT: Final = {
    "unknown checkpoint": Case(
        lambda client: client.load_state(f"bt://loops:{client.run_id}/weights/nowhere"),
        ("nowhere", "no checkpoint"),
    ),
    "not an address": Case(
        lambda client: client.load_state("bt://loops:x/else/y"), ("bt://loops:x/else/y", "expected")
    ),
    "no such directory": Case(
        lambda client: client.load_state("/no/such/place"), ("/no/such/place", "local directory")
    ),
    "mixed normalisation": Case(
        lambda client: client.forward_backward(
            [make_datum(TOKENS)], loss_fn_config={"skip_token_normalization": True}
        ),
        ("skip_token_normalization",),
    ),
}


@pytest.mark.parametrize("name", sorted(AT_THE_CALL))
def test_bad_input_raises_at_the_call_and_changes_nothing(
    trainer: TrainingClient,
    batch: list[Datum],
    state_digest: Callable[[TrainingClient], str],
    name: str,
) -> None:
    trainer.forward_backward(batch).result()
    before = state_digest(trainer)
    with pytest.raises(UsageError) as caught:
        AT_THE_CALL[name].act(trainer)
    _check_message(caught.value, AT_THE_CALL[name])
    assert state_digest(trainer) == before
    assert trainer.optim_step(ADAM).result().metrics is not None


@pytest.mark.parametrize("name", sorted(IN_THE_RESULT))
def test_bad_input_that_only_the_worker_sees_is_an_error_result(
    trainer: TrainingClient,
    batch: list[Datum],
    state_digest: Callable[[TrainingClient], str],
    name: str,
) -> None:
    trainer.forward_backward(batch).result()
    before = state_digest(trainer)
    future = IN_THE_RESULT[name].act(trainer)
    with pytest.raises(RemoteOpError) as caught:
        future.result()  # type: ignore[attr-defined]  # every case returns a future
    _check_message(caught.value, IN_THE_RESULT[name])
    assert (caught.value.operation_id, caught.value.run_id) == (future.operation_id, trainer.run_id)  # type: ignore[attr-defined]
    assert state_digest(trainer) == before
    assert trainer.optim_step(ADAM).result().metrics is not None


def test_optim_step_without_gradients_fails_and_changes_nothing(
    trainer: TrainingClient,
    batch: list[Datum],
    state_digest: Callable[[TrainingClient], str],
) -> None:
    before = state_digest(trainer)
    with pytest.raises(RemoteOpError, match="gradient"):
        trainer.optim_step(ADAM).result()
    assert state_digest(trainer) == before
    trainer.forward_backward(batch)
    assert trainer.optim_step(ADAM).result().metrics is not None


@pytest.mark.parametrize("name", ["learning_rate", "beta1", "eps", "weight_decay"])
def test_adam_settings_must_be_finite(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        AdamParams(**{name: float("nan")})


def test_an_unknown_base_model_names_what_is_known(service: object) -> None:
    with pytest.raises(NotFoundError, match="no-such-model"):
        service.create_lora_training_client("no-such-model")  # type: ignore[attr-defined]


def _check_message(error: LoopsError, case: Case) -> None:
    for part in case.says:
        assert part in str(error)
