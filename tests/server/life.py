"""A training life over plain HTTP: what a client without our code sends and reads."""

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


def open_run(http: httpx.Client, base_model: str = "mock-tiny") -> Json:
    """Create a session and a trainer in it; return the run, its trainer fresh."""
    session = http.post("/v1/loops/sessions").raise_for_status().json()["session"]
    wanted = {"session_id": session["id"], "base_model": base_model, "lora_rank": 4, "seed": 1}
    run = http.post("/v1/loops/trainers", json=wanted).raise_for_status().json()["run"]
    assert done(http, run["base_url"], "init_trainer_server", lora_rank=4) == {
        "step": 0,
        "lora_rank": 4,
    }
    return run


def submit(http: httpx.Client, trainer: str, operation: str, **body: object) -> str:
    """Submit an operation and return its id."""
    accepted = http.post(f"{trainer}/{operation}", json=body)
    assert accepted.status_code == 202, accepted.text
    return accepted.json()["operation_id"]


def done(http: httpx.Client, trainer: str, operation: str, **body: object) -> Json:
    """Submit an operation and return its result."""
    return result(http, trainer, submit(http, trainer, operation, **body))


def result(http: httpx.Client, trainer: str, operation_id: str) -> Json:
    """Return the result of an operation that succeeds."""
    while True:
        answer = http.get(f"{trainer}/operations/{operation_id}")
        if answer.status_code != 408:
            break
    assert answer.json()["status"] == "done", answer.text
    return answer.json()["result"]
