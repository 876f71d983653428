"""What is drawn for trainers and samplers is taken; what is broken is refused by its field."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import loops_core
from loops_core import AdamParams, Datum, ModelInput, SamplingParams
from loops_core.errors import LoopsError, UsageError, error_from_body, error_to_body
from loops_core.protocols import LossFunction, LossInput, TrainerDescription
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointAddress, is_checkpoint_name
from loops_core.types.datum import ImageAssetPointerChunk
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ErrorBody, ForwardBody
from loops_core.worker.validation import check_forward
from loops_mock.losses import EXACT_LOSSES
from loops_mock.strategies import (
    LOSS_INPUTS,
    PROTOCOL_LOSSES,
    Defect,
    adam_params,
    batches,
    checkpoint_addresses,
    checkpoint_names,
    datums,
    error_classes,
    errors,
    model_inputs,
    sampling_params,
    wire_types,
)
from loops_mock.strategies.names import wrong_checkpoint_names

EVERY_LOSS = pytest.mark.parametrize("loss_fn", PROTOCOL_LOSSES)
FEW = settings(max_examples=20, database=None)
SEARCH = settings(max_examples=2_000, database=None)


def describe(loss_fn: str) -> TrainerDescription:
    """Return a trainer that offers one loss, with the inputs that the strategies know."""
    named = tuple(LossInput(name=name) for name in LOSS_INPUTS[loss_fn])
    weights = (LossInput(name="weights", required=False),) if loss_fn == "cross_entropy" else ()
    loss = LossFunction(
        name=loss_fn, compute=lambda _p, _i, _s: _p, source="", inputs=(*named, *weights)
    )
    return TrainerDescription(
        vocab_size=32, max_seq_len=16, max_lora_rank=8, losses={loss_fn: loss}
    )


@EVERY_LOSS
def test_a_drawn_batch_is_taken_and_comes_back_equal(loss_fn: str) -> None:
    @FEW
    @given(batches(loss_fn=loss_fn))
    def look(data: list[Datum]) -> None:
        body = ForwardBody(data=data, loss_fn=loss_fn)
        check_forward(body, describe(loss_fn))
        assert ForwardBody.model_validate_json(body.model_dump_json(by_alias=True)) == body
        assert unpack(pack(body), ForwardBody) == body

    look()


@EVERY_LOSS
def test_a_broken_batch_is_refused_by_the_field_that_its_defect_names(loss_fn: str) -> None:
    @FEW
    @given(batches(loss_fn=loss_fn, invalid=True))
    def look(defect: Defect[list[Datum]]) -> None:
        if defect.name.startswith("weights ") and loss_fn != "cross_entropy":
            return  # a loss that does not read them does not look at them
        with pytest.raises(UsageError) as caught:
            check_forward(ForwardBody(data=defect.value, loss_fn=loss_fn), describe(loss_fn))
        assert caught.value.field == defect.field

    look()


@pytest.mark.parametrize("loss_fn", sorted(set(EXACT_LOSSES) & set(LOSS_INPUTS)))
def test_the_inputs_that_are_drawn_are_those_that_the_mock_reads(loss_fn: str) -> None:
    required = {spec.name for spec in EXACT_LOSSES[loss_fn].function.inputs if spec.required}
    assert required <= set(LOSS_INPUTS[loss_fn])
    assert set(LOSS_INPUTS[loss_fn]) <= {
        spec.name for spec in EXACT_LOSSES[loss_fn].function.inputs
    }


def test_dpo_rows_come_in_pairs() -> None:
    assert len(find(batches(loss_fn="dpo"), lambda _: True, settings=SEARCH)) == 2


def test_the_smallest_datum_has_one_position_and_the_lowest_id() -> None:
    smallest = find(datums(), lambda _: True, settings=SEARCH)
    assert smallest.model_input.to_ints() == [0]
    assert smallest.loss_fn_inputs["target_tokens"].tolist() == [0]
    assert set(smallest.loss_fn_inputs) == {"target_tokens"}


def test_a_datum_shrinks_to_the_one_token_that_matters() -> None:
    found = find(datums(), lambda d: any(t >= 7 for t in d.model_input.to_ints()), settings=SEARCH)
    assert found.model_input.to_ints() == [7]


@FEW
@given(model_inputs(images=True), adam_params(), sampling_params())
def test_inputs_and_settings_come_back_equal(
    model_input: ModelInput, adam: AdamParams, params: SamplingParams
) -> None:
    for value in (model_input, adam, params):
        assert type(value).model_validate_json(value.model_dump_json()) == value
        assert unpack(pack(value), type(value)) == value


@FEW
@given(checkpoint_names(), checkpoint_addresses())
def test_names_and_addresses_are_as_the_protocol_says(
    name: str, address: CheckpointAddress
) -> None:
    assert is_checkpoint_name(name)
    assert CheckpointAddress.parse(str(address)) == address


@FEW
@given(wrong_checkpoint_names())
def test_a_wrong_name_is_none(defect: Defect[str]) -> None:
    assert defect.field == "name"
    assert not is_checkpoint_name(defect.value)


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_errors_of_every_class_come_back_equal(cls: type[LoopsError]) -> None:
    @FEW
    @given(errors(cls))
    def look(error: LoopsError) -> None:
        text = error_to_body(error).model_dump_json()
        back = error_from_body(ErrorBody.model_validate_json(text))
        assert type(back) is cls
        assert back.message == error.message
        assert back.fields() == error.fields()

    look()


@FEW
@given(st.data())
def test_any_error_may_be_drawn(data: st.DataObject) -> None:
    assert type(data.draw(errors())) in error_classes()


def test_every_public_value_type_has_a_strategy() -> None:
    public = [getattr(loops_core, name) for name in loops_core.__all__ if name != "__version__"]
    ours = {t for t in public if isinstance(t, type) and issubclass(t, WireModel)}
    assert ours
    assert ours - {ImageAssetPointerChunk} <= set(wire_types())
