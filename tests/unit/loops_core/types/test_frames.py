"""What packed values promise: equal values back without a copy, or a ValueError."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.frames import MAGIC, pack, unpack
from loops_core.types.operation import ForwardBody
from loops_core.types.tensor import TensorData
from loops_mock.strategies import tensors, wire_values


def body_of(*data: TensorData) -> ForwardBody:
    datums = [
        Datum(model_input=ModelInput.from_ints([1, 2]), loss_fn_inputs={"weights": tensor})
        for tensor in data
    ]
    return ForwardBody(data=datums)


BODY = body_of(
    TensorData(data=np.arange(3, dtype=np.int64)),
    TensorData(data=np.array([True, False, True])),
    TensorData(data=np.zeros(0, dtype=np.float32)),
    TensorData(data=np.array([0.5, np.nan, np.inf], dtype=np.float32)),
)
PACKED = pack(BODY)


FRAMES = [
    ["int32", 8],
    ["int64", 24],
    ["int32", 8],
    ["bool", 3],
    ["int32", 8],
    ["float32", 0],
    ["int32", 8],
    ["float32", 12],
]
"""The frames of the packed body: each datum's token ids, then its tensor."""


def rewritten(**changes: object) -> bytes:
    """Return the packed body with another header in front of the same buffers."""
    start = len(MAGIC) + 8
    size = int.from_bytes(PACKED[len(MAGIC) : start], "little")
    header = {**json.loads(PACKED[start : start + size]), **changes}
    text = json.dumps(header).encode()
    buffers = PACKED[start + size + -size % 8 :]
    return MAGIC + len(text).to_bytes(8, "little") + text + bytes(-len(text) % 8) + buffers


@given(tensors(infinities=True))
def test_tensors_come_back_with_every_bit(tensor: TensorData) -> None:
    back = unpack(pack(body_of(tensor)), ForwardBody).data[0].loss_fn_inputs["weights"]
    assert back == tensor
    assert back.data.tobytes() == tensor.data.tobytes()
    assert back.data.dtype == tensor.data.dtype


def test_numbers_that_are_no_number_come_back() -> None:
    numbers = {"a": float("nan"), "b": float("inf"), "c": -float("inf")}
    back = unpack(pack(ForwardBody(data=[], loss_fn_config=numbers)), ForwardBody)
    assert repr(back.loss_fn_config) == repr(numbers)


def test_a_field_that_is_left_out_comes_back_as_its_default() -> None:
    body = ForwardBody(data=[], seq_id=5, loss_fn="ppo")
    assert unpack(pack(body, without=frozenset({"seq_id"})), ForwardBody) == ForwardBody(
        data=[], loss_fn="ppo"
    )


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        pack(ForwardBody(data=[], loss_fn="\udc80"))


@given(wire_values(ForwardBody))
def test_the_same_value_gives_the_same_bytes(body: ForwardBody) -> None:
    assert pack(body) == pack(body.model_copy(deep=True))


@given(st.lists(st.integers() | st.integers(-(2**31), 2**31), max_size=20))
def test_token_ids_come_back_as_the_same_list(tokens: list[int]) -> None:
    value = ModelInput.from_ints(tokens)
    back = unpack(pack(value), ModelInput).to_ints()
    assert back == tokens
    assert {type(token) for token in back} <= {int}


@pytest.mark.parametrize(
    ("largest", "itemsize"), [(2**31 - 1, 4), (-(2**31), 4), (2**31, 8), (-(2**63), 8)]
)
def test_integers_take_the_bytes_that_they_need(largest: int, itemsize: int) -> None:
    values = [*range(999), largest]
    for value in (
        ModelInput.from_ints(values),
        TensorData(data=np.array(values, dtype=np.int64)),
    ):
        packed = pack(value)
        assert itemsize * 1000 <= len(packed) < itemsize * 1000 + 200
        back = unpack(packed, type(value))
        assert back == value
        if isinstance(back, TensorData):
            assert back.data.dtype == np.int64


def test_a_batch_takes_little_more_than_its_values() -> None:
    num_positions = 8_192
    tensors = {
        "target_tokens": TensorData(data=np.arange(num_positions)),
        "logprobs": TensorData(data=np.zeros(num_positions, dtype=np.float32)),
    }
    datum = Datum(
        model_input=ModelInput.from_ints(list(range(num_positions))), loss_fn_inputs=tensors
    )
    assert len(pack(ForwardBody(data=[datum]))) < 3 * 4 * num_positions + 1_000


def test_tensors_are_read_without_a_copy() -> None:
    back = unpack(PACKED, ForwardBody)
    for datum in (back.data[0], back.data[3]):
        array = datum.loss_fn_inputs["weights"].data
        assert np.shares_memory(array, np.frombuffer(PACKED, dtype=np.uint8))
        assert not array.flags.writeable


def test_buffers_are_aligned_and_little_endian() -> None:
    assert len(PACKED) % 8 == 0
    assert PACKED.index(np.arange(3, dtype="<i8").tobytes()) % 8 == 0
    assert PACKED.index(np.array([1, 2], dtype="<i4").tobytes()) % 8 == 0


@pytest.mark.parametrize("length", range(len(PACKED)))
def test_bytes_cut_short_anywhere_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="packed value"):
        unpack(PACKED[:length], ForwardBody)


def test_bytes_behind_the_value_are_refused() -> None:
    with pytest.raises(ValueError, match="packed value"):
        unpack(PACKED + bytes(8), ForwardBody)


def test_another_magic_is_refused() -> None:
    with pytest.raises(ValueError, match="magic"):
        unpack(b"LOOPSF1\n" + PACKED[8:], ForwardBody)


@pytest.mark.parametrize("size", [len(PACKED), 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_bytes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cut short"):
        unpack(MAGIC + size.to_bytes(8, "little") + PACKED[16:], ForwardBody)


@pytest.mark.parametrize(
    "frames",
    [
        None,
        {},
        [],
        FRAMES[:-1],
        [*FRAMES, ["int64", 8]],
        [*FRAMES[:-1], ["float32", 2**62]],
        [*FRAMES[:-1], ["float32", -12]],
        [*FRAMES[:-1], ["float32", 12.5]],
        [*FRAMES[:-1], ["float32", "12"]],
        [*FRAMES[:-1], ["float32", True]],
        [*FRAMES[:-1], ["float32"]],
        [*FRAMES[:-1], ["float64", 12]],
        [*FRAMES[:-1], ["object", 12]],
        [*FRAMES[:-1], [None, 12]],
        [*FRAMES[:-1], ["float32", 10**400]],
        ["float32", 12],
    ],
    ids=lambda frames: repr(frames)[-40:],
)
def test_frames_that_do_not_fill_the_bytes_are_refused(frames: object) -> None:
    with pytest.raises(ValueError, match=r"packed value|frame|dtype"):
        unpack(rewritten(frames=frames), ForwardBody)


@pytest.mark.parametrize("number", [8, -1, 10**30, 0.0, True, None, "0", [0]], ids=repr)
def test_a_frame_that_does_not_exist_is_refused(number: object) -> None:
    body = json.loads(BODY.model_dump_json())
    body["data"][0]["loss_fn_inputs"]["weights"]["data"] = {"frame": number}
    with pytest.raises(ValueError, match=r"frame .* does not exist"):
        unpack(rewritten(body=body), ForwardBody)
    body = json.loads(BODY.model_dump_json())
    body["data"][0]["model_input"]["chunks"][0]["tokens"] = {"frame": number}
    with pytest.raises(ValueError, match=r"frame .* does not exist"):
        unpack(rewritten(body=body), ForwardBody)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("int32", [3]),
        ("float64", [3]),
        ("int64", [4]),
        ("nothing", [3]),
        (None, [3]),
        ("int8", [24]),
    ],
)
def test_a_frame_read_as_another_tensor_is_refused(dtype: object, shape: list[int]) -> None:
    body = json.loads(BODY.model_dump_json())
    weights = {"data": {"frame": 1}, "dtype": dtype, "shape": shape}
    body["data"][0]["loss_fn_inputs"]["weights"] = weights
    with pytest.raises(ValueError, match=r"dtype|shape|frame"):
        unpack(rewritten(body=body), ForwardBody)


@pytest.mark.parametrize("number", [3, 7])
def test_token_ids_are_read_from_integers_only(number: int) -> None:
    body = json.loads(BODY.model_dump_json())
    body["data"][0]["model_input"]["chunks"][0]["tokens"] = {"frame": number}
    with pytest.raises(ValueError, match=rf"frame {number} holds (bool|float32), not int64"):
        unpack(rewritten(body=body), ForwardBody)


def test_bytes_that_are_no_bools_are_refused() -> None:
    damaged = bytearray(PACKED)
    damaged[PACKED.rindex(b"\x01\x00\x01")] = 2
    with pytest.raises(ValueError, match="bool"):
        unpack(bytes(damaged), ForwardBody)


NO_HEADERS = ["", "null", "[]", "1", "{", '{"body": {}}', "[" * 100_000, "\xff"]


@pytest.mark.parametrize("text", NO_HEADERS, ids=lambda text: text[:9])
def test_a_header_that_is_no_header_is_refused(text: str) -> None:
    header = text.encode("latin-1")
    packed = MAGIC + len(header).to_bytes(8, "little") + header + bytes(-len(header) % 8)
    with pytest.raises(ValueError, match="packed value"):
        unpack(packed, ForwardBody)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="data"):
        unpack(pack(TensorData(data=[1], dtype="int64", shape=[1])), ForwardBody)


def test_a_frame_outside_a_packed_value_is_refused() -> None:
    with pytest.raises(ValueError, match="list or an array"):
        TensorData.model_validate({"data": {"frame": 0}, "dtype": "int64", "shape": [1]})
    with pytest.raises(ValueError, match="list of integers"):
        ModelInput.model_validate({"chunks": [{"type": "encoded_text", "tokens": {"frame": 0}}]})


@given(st.data())
def test_a_damaged_byte_is_a_value_error_or_another_value(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(PACKED) - 1))
    damaged = bytearray(PACKED)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        body = unpack(bytes(damaged), ForwardBody)
    except ValueError:
        return
    assert isinstance(body, ForwardBody)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_error(noise: bytes) -> None:
    for data in (noise, MAGIC + noise):
        with pytest.raises(ValueError, match="packed value"):
            unpack(data, ForwardBody)
