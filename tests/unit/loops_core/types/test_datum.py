"""What inputs of a trainer promise: tokens are integers, tensors are tensors, images are bytes."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loops_core.types.datum import (
    Datum,
    EncodedTextChunk,
    ImageAssetPointerChunk,
    ImageChunk,
    ModelInput,
)
from loops_core.types.tensor import TensorData

TOKENS = st.lists(st.integers(-5, 2**40), max_size=6)
IMAGE = ImageChunk.from_bytes(b"\x89PNG", "png", 4)


def test_what_users_write_works() -> None:
    targets = [5, 6, -100]
    datum = Datum(
        model_input=ModelInput.from_ints([4, 5, 6]),
        loss_fn_inputs={
            "target_tokens": TensorData(data=targets, dtype="int64", shape=[len(targets)])
        },
    )
    assert datum.model_input.length == 3
    assert datum.loss_fn_inputs["target_tokens"].tolist() == targets


@given(TOKENS)
def test_tokens_go_in_and_out(tokens: list[int]) -> None:
    model_input = ModelInput.from_ints(tokens)
    assert model_input.to_ints() == tokens
    assert model_input.length == len(tokens)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_integer_arrays_are_tokens(dtype: type[np.integer]) -> None:
    tokens = ModelInput.from_ints(np.array([3, 4], dtype=dtype)).to_ints()
    assert tokens == [3, 4]
    assert {type(token) for token in tokens} == {int}


def test_integers_of_numpy_in_a_list_are_tokens() -> None:
    tokens = EncodedTextChunk.model_validate({"tokens": [np.int64(3), 4, 5.0]}).tokens
    assert [(token, type(token)) for token in tokens] == [(3, int), (4, int), (5, int)]


@pytest.mark.parametrize(
    "tokens",
    [
        [1.5],
        [True],
        [1, False],
        ["5"],
        [None],
        [float("nan")],
        [[1]],
        "12",
        b"12",
        5,
        None,
        {1: 2},
        np.array([1.0]),
        np.array([True]),
        np.array([[1, 2]]),
        np.array(1),
        np.array(["1"]),
    ],
    ids=repr,
)
def test_what_is_no_token_is_refused(tokens: object) -> None:
    with pytest.raises(ValidationError, match="tokens"):
        EncodedTextChunk.model_validate({"tokens": tokens})


def test_token_ids_below_zero_are_left_to_the_service() -> None:
    assert ModelInput.from_ints([-1]).to_ints() == [-1]


@given(TOKENS, st.integers(0, 9))
def test_appending_makes_a_new_input(tokens: list[int], token: int) -> None:
    before = ModelInput.from_ints(tokens)
    assert before.append_int(token).to_ints() == [*tokens, token]
    assert before.append(EncodedTextChunk(tokens=[token])).to_ints() == [*tokens, token]
    assert before.to_ints() == tokens


def test_a_token_starts_a_chunk_where_there_is_no_text() -> None:
    assert ModelInput.empty().append_int(5).to_ints() == [5]
    after_image = ModelInput.empty().append(IMAGE).append_int(5)
    assert [chunk.type for chunk in after_image.chunks] == ["image", "encoded_text"]
    assert after_image.length == 5


def test_an_image_has_no_token_ids() -> None:
    with pytest.raises(TypeError, match=r"chunks\[1\] is image"):
        ModelInput.from_ints([1]).append(IMAGE).to_ints()


@given(st.binary(max_size=20))
def test_image_bytes_are_standard_base64_in_json(raw: bytes) -> None:
    chunk = ImageChunk.from_bytes(raw, "jpeg", 3)
    assert chunk.to_bytes() == raw
    assert chunk.length == 3
    written = json.loads(chunk.model_dump_json())["data"]
    assert written == base64.b64encode(raw).decode()
    assert chunk.model_dump()["data"] == raw


@pytest.mark.parametrize("data", ["a", "a-_b", "ä", "YQ", "YQ==\n"])
def test_what_is_no_base64_is_refused(data: str) -> None:
    with pytest.raises(ValidationError, match="data"):
        ImageChunk.model_validate({"data": data, "format": "png", "expected_tokens": 1})


@pytest.mark.parametrize("fields", [{"format": "gif"}, {"expected_tokens": 0}])
def test_an_image_of_another_format_or_no_size_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        ImageChunk.model_validate({"data": b"", "format": "png", "expected_tokens": 1, **fields})


def test_image_pointers_are_always_refused() -> None:
    with pytest.raises(ValidationError, match="send the bytes"):
        ImageAssetPointerChunk(format="png", location="somewhere")
    chunk = {"type": "image_asset_pointer", "format": "png", "location": "somewhere"}
    with pytest.raises(ValidationError, match="send the bytes"):
        ModelInput.model_validate({"chunks": [chunk]})


@pytest.mark.parametrize("chunk", [{"tokens": [1]}, {"type": "audio"}, [1], "text"])
def test_a_chunk_without_a_known_type_is_refused(chunk: object) -> None:
    with pytest.raises(ValidationError, match="chunks"):
        ModelInput.model_validate({"chunks": [chunk]})


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2]), 5, None, "1"], ids=repr)
def test_what_is_no_tensor_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValidationError, match=r"loss_fn_inputs\['weights'\] must be TensorData"):
        Datum.model_validate(
            {"model_input": ModelInput.empty(), "loss_fn_inputs": {"weights": value}}
        )


def test_a_wrong_tensor_in_json_is_named() -> None:
    tensor = {"data": [1], "dtype": "int64", "shape": [2]}
    fields = {"model_input": ModelInput.empty(), "loss_fn_inputs": {"weights": tensor}}
    with pytest.raises(ValidationError, match=r"loss_fn_inputs\.weights\n.*shape \[2\] holds 2"):
        Datum.model_validate(fields)


@pytest.mark.parametrize("inputs", [[1], None, {1: {}}])
def test_loss_fn_inputs_are_named(inputs: object) -> None:
    with pytest.raises(ValidationError, match="loss_fn_inputs"):
        Datum.model_validate({"model_input": {"chunks": []}, "loss_fn_inputs": inputs})
