"""Every method and its `*_async` form say and take the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import pytest

from loops_core.client.futures import ComposedFuture, ForwardBackwardFuture, OperationFuture
from loops_core.client.sampling import SamplingClient
from loops_core.client.service import ServiceClient
from loops_core.client.training import TrainingClient

CLIENTS = (ServiceClient, TrainingClient, SamplingClient)
TWINS = {
    ServiceClient: {
        "create_lora_training_client",
        "create_training_client_from_state",
        "create_training_client_from_state_with_optimizer",
        "create_sampling_client",
        "get_server_capabilities",
    },
    TrainingClient: {
        "forward_backward",
        "forward",
        "forward_backward_custom",
        "optim_step",
        "save_state",
        "save_weights_for_sampler",
        "save_weights_and_get_sampling_client",
        "load_state",
        "load_state_with_optimizer",
        "init_trainer_server",
        "create_sampling_client",
    },
    SamplingClient: {"sample", "compute_logprobs", "ensure_ready"},
}


def find_pairs() -> Iterator[tuple[type, str]]:
    for client in CLIENTS:
        for name, _ in inspect.getmembers(client, inspect.iscoroutinefunction):
            if name.endswith("_async"):
                yield client, name.removesuffix("_async")


PAIRS = list(find_pairs())


def method(client: type, name: str) -> Callable[..., object]:
    return getattr(client, name)


def parameters(client: type, name: str) -> list[inspect.Parameter]:
    return list(inspect.signature(method(client, name)).parameters.values())


@pytest.mark.parametrize("client", CLIENTS)
def test_the_pairs_are_those_that_the_reference_asks_for(client: type) -> None:
    assert {name for owner, name in PAIRS if owner is client} == TWINS[client]


@pytest.mark.parametrize(("client", "name"), PAIRS)
def test_twins_take_the_same_arguments(client: type, name: str) -> None:
    assert parameters(client, name) == parameters(client, f"{name}_async")


@pytest.mark.parametrize(("client", "name"), PAIRS)
def test_twins_have_the_same_docstring(client: type, name: str) -> None:
    docstring = method(client, name).__doc__
    assert docstring
    assert method(client, f"{name}_async").__doc__ == docstring


@pytest.mark.parametrize(("client", "name"), PAIRS)
def test_twins_return_the_same(client: type, name: str) -> None:
    def returned(which: str) -> str:
        return str(inspect.signature(method(client, which)).return_annotation)

    awaited = returned(name).removeprefix("ComposedFuture[").removesuffix("]")
    assert returned(f"{name}_async") in (returned(name), awaited)


@pytest.mark.parametrize("client", CLIENTS)
def test_only_the_first_of_a_pair_blocks(client: type) -> None:
    for owner, name in PAIRS:
        if owner is client:
            assert not inspect.iscoroutinefunction(method(client, name))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", ["close", "aclose", "__enter__", "__aenter__"])
def test_every_client_can_be_closed_and_used_in_with_blocks(client: type, name: str) -> None:
    assert callable(method(client, name))


@pytest.mark.parametrize("future", [OperationFuture, ForwardBackwardFuture, ComposedFuture])
@pytest.mark.parametrize(
    "name",
    ["result", "result_async", "__await__", "done", "exception", "add_done_callback", "cancel"],
)
def test_every_future_has_every_method(future: type, name: str) -> None:
    assert callable(method(future, name))
    assert isinstance(inspect.getattr_static(future, "operation_id"), property)


def test_the_training_client_has_the_reference_s_signatures() -> None:
    reference = {
        "forward_backward": ["data", "loss_fn", "loss_fn_config"],
        "forward": ["data", "loss_fn", "loss_fn_config"],
        "optim_step": ["adam_params"],
        "save_state": ["name", "ttl_seconds"],
        "save_weights_for_sampler": ["name", "ttl_seconds"],
        "save_weights_and_get_sampling_client": ["name"],
        "load_state": ["path"],
        "load_state_with_optimizer": ["path"],
        "list_checkpoints": [],
        "get_checkpoint_archive_url": ["checkpoint_id", "page_size", "page_token"],
        "create_sampling_client": ["model_path"],
        "get_tokenizer": [],
        "get_info": [],
        "init_trainer_server": ["lora_rank"],
        "health": [],
        "close": [],
        "aclose": [],
    }
    for name, expected in reference.items():
        positional = [
            parameter.name
            for parameter in parameters(TrainingClient, name)
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
        ]
        assert positional == expected, name
    for name in ("run_id", "policy_version"):
        assert isinstance(inspect.getattr_static(TrainingClient, name), property)
