"""Requests that are right: a datum, a body for every route, a run that is opened."""

from __future__ import annotations

from typing import Any, Final

import httpx

Json = dict[str, Any]

DATUM: Final[Json] = {
    "model_input": {"chunks": [{"type": "encoded_text", "tokens": [11, 12, 13]}]},
    "loss_fn_inputs": {
        "target_tokens": {"data": [12, 13, 14], "dtype": "int64", "shape": [3]},
    },
}

BODIES: Final[dict[str, Json]] = {
    "create_trainer": {"session_id": "", "base_model": "mock-tiny", "lora_rank": 4},
    "create_sampler": {"session_id": "", "base_model": "mock-tiny"},
    "validate_checkpoint": {"checkpoint_path": ""},
    "init_trainer_server": {"lora_rank": 4},
    "forward": {"data": [DATUM]},
    "forward_backward": {"data": [DATUM]},
    "optim_step": {"adam_params": {}},
    "save_state": {"name": "again"},
    "save_weights_for_sampler": {"name": "again"},
    "load_state": {"path": ""},
    "load_state_with_optimizer": {"path": ""},
    "poll": {"operation_ids": []},
    "sample": {"prompt": [3], "max_tokens": 1},
}
"""A body for every route that takes one; "" stands for an id of the caller's."""


async def open_run(http: httpx.AsyncClient) -> Json:
    """Create a session and a trainer in it; return the run, its trainer fresh."""
    session = (await http.post("/v1/loops/sessions")).json()["session"]
    wanted = {"session_id": session["id"], "base_model": "mock-tiny", "lora_rank": 4, "seed": 1}
    created = await http.post("/v1/loops/trainers", json=wanted)
    assert created.status_code == 200, created.text
    run = created.json()["run"]
    await done(http, run["base_url"], "init_trainer_server", lora_rank=4)
    return run


async def done(
    http: httpx.AsyncClient,
    trainer: str,
    operation: str | None,
    *,
    operation_id: str = "",
    **body: object,
) -> tuple[str, Json]:
    """Return an operation's id and its result, or its error; submit it first if it is named."""
    if operation is not None:
        accepted = await http.post(f"{trainer}/{operation}", json=body)
        assert accepted.status_code == 202, accepted.text
        operation_id = accepted.json()["operation_id"]
    answer = await http.get(f"{trainer}/operations/{operation_id}")
    assert answer.status_code == 200, answer.text
    status = answer.json()
    return operation_id, status if status["status"] == "error" else status["result"]
