"""Datums as arrays: what counts, what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.numerics.cases import make_datum

from loops_backend_jax.losses import make_losses
from loops_backend_jax.train.rows import Row, make_rows
from loops_core.errors import UnsupportedError
from loops_core.protocols import Array, LossFunction, LossInput
from loops_core.types.datum import Datum, ImageChunk, ModelInput

CROSS_ENTROPY = make_losses()["cross_entropy"]


def zero(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
    del inputs, settings
    return 0 * target_logprobs


GATED = LossFunction(
    name="gated",
    compute=zero,
    source="made up for this test",
    inputs=(
        LossInput(name="advantages", shape="positions_or_scalar"),
        LossInput(name="group", dtype="int", shape="positions", required=False),
    ),
    active_input="advantages",
)


def rows(*data: Datum, loss: LossFunction = CROSS_ENTROPY) -> tuple[Row, ...]:
    return make_rows(data, loss, vocab_size=10, max_tokens=6)


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


def test_numbers_are_in_the_dtypes_of_the_maths() -> None:
    weights = np.array([0.1, 2.0], np.float64)
    (row,) = rows(make_datum([1, 2], target_tokens=np.array([1, 2]), weights=weights))
    assert (row.tokens.dtype, row.targets.dtype) == (np.int32, np.int32)
    assert row.inputs["weights"].dtype == np.float32


def test_an_image_is_refused() -> None:
    image = ImageChunk(data=b"\x89PNG", format="png", expected_tokens=4)
    with pytest.raises(UnsupportedError, match="image"):
        rows(Datum(model_input=ModelInput.empty().append(image)))
