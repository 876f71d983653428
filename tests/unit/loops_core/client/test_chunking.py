"""Splitting batches and joining results."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_core.client.fakes import make_datum

from loops_core.client import chunking
from loops_core.client.chunking import datum_bytes, join, split
from loops_core.errors import UsageError
from loops_core.types.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput, ModelInputChunk
from loops_core.types.operation import ForwardBody
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput

FLOATS = {
    "float16": st.floats(width=16),
    "bfloat16": st.floats(-1e38, 1e38) | st.just(math.nan),
    "float32": st.floats(width=32) | st.sampled_from([-1.2345678e-38, 3.4028235e38]),
    "float64": st.floats(),
}
NAMES = st.text(max_size=20)


@st.composite
def tensors(draw: st.DrawFn) -> TensorData:
    dtype = draw(st.sampled_from(["float32", "float64", "float16", "bfloat16", "int64", "bool"]))
    if dtype == "bool":
        values: list[object] = list(draw(st.lists(st.booleans(), max_size=8)))
    elif dtype == "int64":
        values = list(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8)))
    else:
        values = list(draw(st.lists(FLOATS[dtype], max_size=8)))
    numbers = np.asarray(values, dtype="float64" if "float" in dtype else dtype)
    return TensorData(data=numbers, dtype=dtype, shape=[len(values)])


@st.composite
def data(draw: st.DrawFn) -> Datum:
    text = st.builds(EncodedTextChunk, tokens=st.lists(st.integers(0, 2**31), max_size=8))
    image = st.builds(
        ImageChunk,
        data=st.binary(max_size=30),
        format=st.just("png"),
        expected_tokens=st.integers(1, 10_000),
    )
    chunks: list[ModelInputChunk] = list(draw(st.lists(text | image, max_size=3)))
    inputs = draw(st.dictionaries(NAMES, tensors(), max_size=3))
    return Datum(model_input=ModelInput(chunks=chunks), loss_fn_inputs=inputs)


def json_bytes(value: Datum | ForwardBody) -> int:
    plain = json.loads(value.model_dump_json())
    return len(json.dumps(plain, separators=(",", ":")))


@given(data())
def test_the_estimate_is_never_below_the_size_in_json(datum: Datum) -> None:
    size = json_bytes(datum) + len(",")
    assert datum_bytes(datum, is_rough=True) >= datum_bytes(datum) >= size


def test_the_estimate_of_ordinary_data_is_within_twice_its_size() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 100_000, 4096)
    inputs = {
        "target_tokens": TensorData.from_numpy(tokens),
        "logprobs": TensorData.from_numpy(rng.normal(size=4096).astype(np.float32)),
    }
    datum = Datum(model_input=ModelInput.from_ints(tokens.tolist()), loss_fn_inputs=inputs)
    assert datum_bytes(datum) < 2 * json_bytes(datum)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(0, 2000),
    st.sampled_from([1, 2]),
)
def test_every_part_fits_keeps_the_order_and_whole_groups(
    lengths: list[int], room: int, group: int
) -> None:
    batch = [make_datum(list(range(length))) for length in lengths for _ in range(group)]
    widest = max(datum_bytes(datum) for datum in batch)
    parts = split(batch, largest_bytes=1024 + room + group * widest, group=group)
    assert [datum for part in parts for datum in part] == batch
    for part in parts:
        assert part
        assert len(part) % group == 0
        assert json_bytes(ForwardBody(data=part, run_id="r" * 50)) <= 1024 + room + group * widest


def test_parts_are_filled_greedily() -> None:
    batch = [make_datum() for _ in range(6)]
    room = 1024 + 4 * datum_bytes(batch[0])
    assert [len(part) for part in split(batch, largest_bytes=room, group=1)] == [4, 2]


def test_without_a_bound_nothing_is_split() -> None:
    batch = [make_datum(list(range(10_000))) for _ in range(20)]
    assert split(batch, largest_bytes=None, group=1) == [batch]


def test_a_datum_that_does_not_fit_alone_is_named_with_its_size() -> None:
    batch = [make_datum(), make_datum(list(range(10_000)))]
    with pytest.raises(UsageError, match=r"data\[1\] would take about [\d,]+ bytes"):
        split(batch, largest_bytes=10_000, group=1)


def test_pairs_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(UsageError, match="3 datums"):
        split([make_datum()] * 3, largest_bytes=None, group=2)


def test_the_bound_of_the_protocol_is_24_mib() -> None:
    assert chunking.LARGEST_BODY_BYTES == 24 * 1024 * 1024


def logprobs(count: int) -> list[dict[str, TensorData]]:
    return [{"logprobs": TensorData(data=[-1.0], dtype="float32", shape=[1])}] * count


def one_call(losses: list[float]) -> ForwardBackwardOutput:
    """Return what a service would answer to one datum with one loss a token."""
    metrics = {
        "active_tokens": float(len(losses)),
        "loss:sum": sum(losses),
        "loss:max": max(losses),
        "loss:min": min(losses),
        "entropy:mean": sum(losses) / len(losses),
        "skip_token_normalization": 1.0,
    }
    return ForwardBackwardOutput(
        loss=sum(losses) / len(losses), loss_fn_outputs=logprobs(1), metrics=metrics
    )


@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=5), min_size=1, max_size=5))
def test_joined_parts_are_what_one_call_would_have_answered(parts: list[list[float]]) -> None:
    joined = join([one_call(losses) for losses in parts], [1] * len(parts))
    whole = one_call([loss for losses in parts for loss in losses])
    assert joined.loss == pytest.approx(whole.loss, abs=1e-9)  # sums in another order
    assert joined.metrics == pytest.approx(whole.metrics, abs=1e-9)
    assert len(joined.loss_fn_outputs) == len(parts)


def test_without_token_counts_parts_weigh_by_their_datums() -> None:
    outputs = [ForwardBackwardOutput(loss=1.0), ForwardBackwardOutput(loss=4.0)]
    assert join(outputs, [1, 2]).loss == 3.0


def test_a_metric_is_joined_over_the_parts_that_have_it() -> None:
    outputs = [
        ForwardBackwardOutput(loss=1.0, metrics={"kl": 2.0}),
        ForwardBackwardOutput(loss=1.0),
        ForwardBackwardOutput(loss=1.0, metrics={"kl": 5.0}),
    ]
    assert join(outputs, [1, 7, 2]).metrics == {"kl": 4.0}


@pytest.mark.parametrize("missing", [{}, {"skip_token_normalization": 0.0}])
def test_plain_sums_are_confirmed_only_if_every_part_confirms(missing: dict[str, float]) -> None:
    outputs = [
        ForwardBackwardOutput(metrics={"skip_token_normalization": 1.0}),
        ForwardBackwardOutput(metrics=missing),
    ]
    assert join(outputs, [1, 1]).metrics["skip_token_normalization"] == 0.0


def test_the_output_type_is_the_first_that_is_known() -> None:
    outputs = [
        ForwardBackwardOutput(),
        ForwardBackwardOutput(loss_fn_output_type="per_token_logprobs"),
    ]
    assert join(outputs, [1, 1]).loss_fn_output_type == "per_token_logprobs"


def test_one_part_is_returned_as_it_is() -> None:
    only = one_call([1.0])
    assert join([only], [1]) is only
