"""Datums as rows: what counts, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import LossInput, LossSpec
from loops_core.protocols.loss_specs import CROSS_ENTROPY, DPO, PPO
from loops_core.protocols.rows import Row, check_rows, make_rows
from loops_core.types.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput
from loops_core.types.tensor import TensorData

GATED = LossSpec(
    name="gated",
    source="made up for this test",
    inputs=(
        LossInput(name="advantages", shape="positions_or_scalar"),
        LossInput(name="group", dtype="int", shape="positions", required=False),
    ),
    active_input="advantages",
)


def make_datum(tokens: list[int], **inputs: np.ndarray[Any, Any]) -> Datum:
    tensors = {name: TensorData.from_numpy(array) for name, array in inputs.items()}
    return Datum(model_input=ModelInput.from_ints(tokens), loss_fn_inputs=tensors)


def rows(*data: Datum, loss: LossSpec = CROSS_ENTROPY) -> list[Row]:
    check_rows(data, loss, vocab_size=10, max_seq_len=6)
    return make_rows(data, loss, vocab_size=10, max_seq_len=6)


def test_ignored_targets_are_neither_scored_nor_active() -> None:
    (row,) = rows(make_datum([1, 2, 3], target_tokens=np.array([-100, 4, 5])))
    assert row.scored.tolist() == row.active.tolist() == [False, True, True]
    assert row.targets.tolist() == [0, 4, 5]
    assert row.num_active == 2


def test_a_weight_of_zero_is_scored_but_does_not_count() -> None:
    weights = np.array([0.0, -1.5, 0.5], np.float32)
    (row,) = rows(make_datum([1, 2, 3], target_tokens=np.array([3, 4, 5]), weights=weights))
    assert row.scored.all()
    assert row.active.tolist() == [False, True, True]
    assert row.inputs["weights"].tolist() == [0.0, -1.5, 0.5]


def test_a_position_with_several_targets_counts_once() -> None:
    targets = np.array([[1, 2], [-100, 3], [-100, -100]])
    (row,) = rows(make_datum([1, 2, 3], target_tokens=targets))
    assert row.num_active == 2


def test_without_targets_a_text_predicts_itself() -> None:
    (row,) = rows(make_datum([5, 6, 7]))
    assert row.targets.tolist() == [6, 7, 0]
    assert row.scored.tolist() == [True, True, False]


def test_one_number_stands_for_all_positions() -> None:
    datum = make_datum(
        [1, 2, 3], target_tokens=np.array([3, 4, 5]), advantages=np.array([2.0], np.float32)
    )
    (row,) = rows(datum, loss=GATED)
    assert row.inputs["advantages"].tolist() == [2.0, 2.0, 2.0]


def test_keys_that_the_loss_does_not_read_are_left_alone() -> None:
    datum = make_datum([1], target_tokens=np.array([1]), mask=np.array([np.nan], np.float32))
    assert rows(datum)[0].inputs == {}


def test_what_stands_at_an_ignored_position_does_not_matter() -> None:
    weights = np.array([np.nan, 1.0], np.float32)
    (row,) = rows(make_datum([1, 2], target_tokens=np.array([-100, 2]), weights=weights))
    assert row.inputs["weights"].tolist() == [0.0, 1.0]


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("datum", "loss", "message"),
    [
        (make_datum([]), CROSS_ENTROPY, r"model_input has 0 positions: expected 1 to 6"),
        (
            make_datum([1, 10]),
            CROSS_ENTROPY,
            r"chunks\[0\].tokens\[1\] is 10: expected a token id from 0 to 9",
        ),
        (make_datum([-1]), CROSS_ENTROPY, r"tokens\[0\] is -1: expected a token id"),
        (make_datum([2**70]), CROSS_ENTROPY, r"is 1180591620717411303424: expected a token id"),
        (make_datum([1] * 7), CROSS_ENTROPY, r"has 7 positions: expected 1 to 6"),
        (
            make_datum([1], target_tokens=floats(1)),
            CROSS_ENTROPY,
            r"target_tokens'\] is float32: expected int64",
        ),
        (
            make_datum([1, 2], target_tokens=np.array([1])),
            CROSS_ENTROPY,
            r"has shape \(1,\): expected \(2,\) or \(2, K\)",
        ),
        (
            make_datum([1], target_tokens=np.array([10])),
            CROSS_ENTROPY,
            r"target_tokens'\]\[0\] is 10: expected a token id",
        ),
        (
            make_datum([1], target_tokens=np.array([-7])),
            CROSS_ENTROPY,
            r"target_tokens'\]\[0\] is -7: expected a token id",
        ),
        (
            make_datum([1], target_tokens=np.array([[1]]), advantages=floats(1)),
            GATED,
            r"has shape \(1, 1\): expected \(1,\), one",
        ),
        (
            make_datum([1], target_tokens=np.array([1]), weights=floats(np.nan)),
            CROSS_ENTROPY,
            r"weights'\]\[0\] is nan: expected a finite number",
        ),
        (
            make_datum([1], target_tokens=np.array([1]), weights=floats(1, 2)),
            CROSS_ENTROPY,
            r"weights'\] has shape \(2,\): expected \(1,\)",
        ),
        (
            make_datum([1], target_tokens=np.array([1]), weights=np.array([True])),
            CROSS_ENTROPY,
            r"weights'\] is bool: expected one of float32",
        ),
        (make_datum([1], target_tokens=np.array([1])), GATED, r"advantages'\] is missing"),
        (
            make_datum([1], target_tokens=np.array([1]), advantages=floats(1), group=floats(1)),
            GATED,
            r"group'\] is float32: expected one of int64",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    datum: Datum, loss: LossSpec, message: str
) -> None:
    good = make_datum([1], target_tokens=np.array([1]), advantages=floats(1))
    with pytest.raises(UsageError, match=r"data\[1\]\..*" + message) as caught:
        rows(good, datum, loss=loss)
    assert str(caught.value.field).startswith("data[1].")


def test_data_of_several_widths_are_refused() -> None:
    one, two = (make_datum([1], target_tokens=np.array(t)) for t in ([1], [[1, 2]]))
    with pytest.raises(UsageError, match=r"mixes target_tokens of shape \(N,\) and \(N, K\)"):
        rows(one, two)


def test_an_image_is_refused() -> None:
    image = ImageChunk(data=b"\x89PNG", format="png", expected_tokens=4)
    with pytest.raises(UnsupportedError, match="image"):
        rows(Datum(model_input=ModelInput.empty().append(image)))


def test_a_logprob_is_not_asked_of_a_position_without_advantage() -> None:
    """What a sampler does not know of a prompt, NaN, may stay in its place."""
    inputs = {"advantages": floats(0, 1), "logprobs": floats(np.nan, -1)}
    (row,) = rows(make_datum([1, 2], target_tokens=np.array([1, 2]), **inputs), loss=PPO)
    assert row.active.tolist() == [False, True]
    assert row.inputs["logprobs"].tolist() == [0.0, -1.0]
    wrong = make_datum([1, 2], advantages=floats(1, 1), logprobs=floats(np.nan, -1))
    with pytest.raises(UsageError, match=r"logprobs'\]\[0\] is nan"):
        rows(wrong, loss=PPO)


def test_texts_of_several_chunks_are_one_row() -> None:
    chunks = [EncodedTextChunk(tokens=[1, 2]), EncodedTextChunk(tokens=[3])]
    (row,) = rows(Datum(model_input=ModelInput(chunks=list(chunks))))
    assert row.tokens.tolist() == [1, 2, 3]


def test_no_data_and_half_a_pair_are_refused() -> None:
    with pytest.raises(UsageError, match="data is empty: expected at least one"):
        rows()
    with pytest.raises(UsageError, match="data holds 1 datums: dpo expects a multiple of 2"):
        rows(make_datum([1, 2]), loss=DPO)


def test_what_float32_does_not_hold_is_refused() -> None:
    datum = make_datum([1], target_tokens=np.array([1]), weights=np.array([1e39]))
    with pytest.raises(UsageError, match=r"weights'\]\[0\] is 1e\+39"):
        rows(datum)
