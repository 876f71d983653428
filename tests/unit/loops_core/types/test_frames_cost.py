"""What packing costs beside JSON, as a plain client writes it and a plain server reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
from pydantic import BaseModel

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody
from loops_core.types.tensor import TensorData

LENGTH: Final = 8_192

LEAST_GAIN: Final = 30
"""Measured 47 to 65: the rest is for machines whose memory is slower than their interpreter."""


class PlainTensor(BaseModel):
    data: list[float | int | None]
    dtype: str
    shape: list[int]


class PlainDatum(BaseModel):
    model_input: dict[str, object]
    loss_fn_inputs: dict[str, PlainTensor]


class PlainBody(BaseModel):
    data: list[PlainDatum]


def make_body(num_datums: int) -> ForwardBody:
    rng, data = np.random.default_rng(0), list[Datum]()
    for _ in range(num_datums):
        tokens = rng.integers(0, 150_000, LENGTH + 1)
        tensors = {"target_tokens": TensorData.from_numpy(tokens[1:])}
        for name in ("logprobs", "advantages"):
            values = rng.normal(size=LENGTH).astype(np.float32)
            tensors[name] = TensorData.from_numpy(values)
        model_input = ModelInput.from_ints(tokens[:-1].tolist())
        data.append(Datum(model_input=model_input, loss_fn_inputs=tensors))
    return ForwardBody(data=data, loss_fn="ppo")


def through_json(body: ForwardBody) -> bytes:
    """Return the body's JSON: made datum by datum, measured, made as a whole, and read back."""
    dumped = [datum.model_dump(mode="json") for datum in body.data]
    sizes = [len(json.dumps(datum, separators=(",", ":"))) for datum in dumped]
    text = json.dumps({"data": dumped}, separators=(",", ":")).encode()
    assert sum(sizes) < len(text)
    PlainBody.model_validate(json.loads(text))
    return text


def seconds_of(call: Callable[[], object], num_runs: int) -> float:
    """Return the shortest of the runs, which nothing else disturbed."""
    seconds: list[float] = []
    for _ in range(num_runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_packed_bytes_are_at_most_half_of_the_json() -> None:
    body = make_body(2)
    assert len(pack(body)) <= len(through_json(body)) / 2


@pytest.mark.slow
def test_packing_there_and_back_is_30_times_faster_than_json() -> None:
    body = make_body(64)
    packed_s = seconds_of(lambda: unpack(pack(body), ForwardBody), 5)
    json_s = seconds_of(lambda: through_json(body), 1)
    assert json_s / packed_s >= LEAST_GAIN
