"""A batch that is read in pieces means what it means when it is read whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_transport_http.server.life import DATUM

from loops_core.types.operation import ForwardBody, OptimStepBody
from loops_transport_http.server.batches import read_batch

ODD: dict[str, Any] = {
    **DATUM,
    "routed_experts_ref": {"uri": 'bt://"]},{"\\', "version": 1},
    "more": ["[{", {}],
}


def text(**fields: Any) -> bytes:
    return json.dumps({"data": [DATUM, ODD], **fields}).encode()


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(loss_fn="data", loss_fn_config={"data": 1.0}, new=[{"data": [1]}]),
        json.dumps({"run_id": "x", "new": '"data": [', "data": [ODD]}, indent=3).encode(),
        text().replace(b", ", b" ,\n\t").replace(b"[{", b" [ {"),
        b'{"data": []}',
        b'{"loss_fn": "\\"data\\": [", "data" :[ ]}',
    ],
)
def test_pieces_mean_what_the_whole_means(content: bytes) -> None:
    read = read_batch(content, ForwardBody)
    assert read is not None
    assert read == ForwardBody.model_validate_json(content)
    assert read.model_fields_set >= {"data"}


@pytest.mark.parametrize(
    "content",
    [
        text()[:-1],
        text() + b"}",
        text().replace(b"}, {", b"} {"),
        text().replace(b"}, {", b"}, 1, {"),
        text().replace(b"}, {", b"},, {"),
        b'{"data": [' + text() + b', "data": [[]]}',
        b'{"data": [1]}',
        b'{"data": {}}',
        b'{"data": [[]]}',
        b'{"data": [], "data": []}',
        b'{"loss_fn": "x"}',
        b'"data": []',
        b"",
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_cut_or_is_wrong_is_left_to_be_read_whole(content: bytes) -> None:
    assert read_batch(content, ForwardBody) is None


def test_other_bodies_are_read_whole() -> None:
    assert read_batch(b'{"adam_params": {}}', OptimStepBody) is None


@given(st.data())
def test_a_batch_that_was_damaged_never_reads_as_something_else(data: st.DataObject) -> None:
    content = bytearray(text())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"{", b"}", b"[", b"]", b'"', b",", b"\\", b'"data":[', b"1"])
        )
    read = read_batch(bytes(content), ForwardBody)
    if read is not None:
        assert read == ForwardBody.model_validate_json(bytes(content))
