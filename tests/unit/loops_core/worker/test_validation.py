"""What a trainer cannot execute is refused before it is logged; the message names the field."""

from __future__ import annotations

import numpy as np
import pytest

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import (
    LossFunction,
    LossInput,
    LossSetting,
    TrainerDescription,
    loss_specs,
)
from loops_core.types.datum import Datum, ExternalRef, ImageChunk, ModelInput
from loops_core.types.operation import ForwardBody, InitTrainerServerBody, SaveStateBody
from loops_core.types.tensor import TensorData
from loops_core.worker.validation import check_operation


def _no_loss(*_arguments: object) -> float:
    return 0.0


CROSS_ENTROPY = LossFunction(
    name="cross_entropy",
    compute=_no_loss,
    source="none",
    inputs=(LossInput(name="weights", required=False),),
    settings=(LossSetting(name="skip_token_normalization", default=False),),
    multiple_targets=True,
)
PPO = LossFunction(
    name="ppo",
    compute=_no_loss,
    source="none",
    inputs=(
        LossInput(name="logprobs", shape="positions"),
        LossInput(name="advantages", shape="positions_or_scalar"),
    ),
    settings=(LossSetting(name="clip_low_threshold", default=0.8, minimum=0.0, maximum=1.0),),
)
PAIRS = LossFunction.from_spec(loss_specs.DPO, compute=_no_loss, combine=_no_loss)
TRAINER = TrainerDescription(
    vocab_size=10,
    max_seq_len=4,
    max_lora_rank=8,
    losses={loss.name: loss for loss in (CROSS_ENTROPY, PPO, PAIRS)},
)


def _datum(**inputs: TensorData) -> Datum:
    return Datum(model_input=ModelInput.from_ints([1, 2, 3]), loss_fn_inputs=inputs)


def _floats(*values: float | None) -> TensorData:
    return TensorData.from_list(list(values))


def _targets(*values: int) -> TensorData:
    return TensorData.from_list(list(values), dtype="int64")


def _ppo(advantages: TensorData, logprobs: TensorData, **more: TensorData) -> ForwardBody:
    return ForwardBody(
        data=[_datum(advantages=advantages, logprobs=logprobs, **more)], loss_fn="ppo"
    )


def test_targets_may_be_missing() -> None:
    check_operation(ForwardBody(data=[_datum()]), TRAINER)


def test_a_scalar_advantage_and_an_array_are_both_taken() -> None:
    check_operation(_ppo(_floats(0.5), _floats(0.1, 0.2, 0.3)), TRAINER)
    check_operation(_ppo(_floats(0.5, 0.0, 1.0), _floats(0.1, 0.2, 0.3)), TRAINER)


def test_nothing_is_asked_of_ignored_positions() -> None:
    """What `forward` returned for an ignored position, NaN, may come back as an input."""
    body = _ppo(_floats(0.5), _floats(None, 0.2, 0.3), target_tokens=_targets(-100, 2, 3))
    check_operation(body, TRAINER)
    body = _ppo(_floats(0.5), _floats(None, 0.2, 0.3), target_tokens=_targets(1, 2, 3))
    with pytest.raises(UsageError, match="logprobs"):
        check_operation(body, TRAINER)


def test_a_missing_input_is_named() -> None:
    body = ForwardBody(data=[_datum(), _datum(logprobs=_floats(1, 2, 3))], loss_fn="ppo")
    with pytest.raises(UsageError, match=r"data\[0\].loss_fn_inputs\['logprobs'\] is missing"):
        check_operation(body, TRAINER)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "x"])
def test_a_setting_out_of_its_range_is_refused(value: float | bool | str) -> None:
    body = _ppo(_floats(0.5), _floats(0.1, 0.2, 0.3))
    body.loss_fn_config = {"clip_low_threshold": value}
    with pytest.raises(UsageError, match="clip_low_threshold"):
        check_operation(body, TRAINER)


def test_two_targets_a_position_need_a_loss_that_takes_them() -> None:
    pairs = TensorData.from_numpy(np.ones((3, 2), dtype=np.int64))
    check_operation(ForwardBody(data=[_datum(target_tokens=pairs)]), TRAINER)
    body = _ppo(_floats(0.5), _floats(0.1, 0.2, 0.3), target_tokens=pairs)
    with pytest.raises(UsageError, match=r"shape \(3, 2\)"):
        check_operation(body, TRAINER)


def test_half_a_pair_is_refused() -> None:
    ref = _floats(-1, -1, -1)
    check_operation(ForwardBody(data=[_datum(ref_logprobs=ref)] * 2, loss_fn="dpo"), TRAINER)
    with pytest.raises(UsageError, match="data holds 3 datums: dpo expects a multiple of 2"):
        check_operation(ForwardBody(data=[_datum(ref_logprobs=ref)] * 3, loss_fn="dpo"), TRAINER)


def test_images_and_routing_are_refused_by_name() -> None:
    image = ImageChunk.from_bytes(b"x", "png", 2)
    with pytest.raises(UnsupportedError, match="image"):
        check_operation(ForwardBody(data=[Datum(model_input=ModelInput(chunks=[image]))]), TRAINER)
    routed = _datum()
    routed.routed_experts_ref = ExternalRef(uri="bt://loops:r/sequences/x", version=1)
    with pytest.raises(UnsupportedError, match="routed_experts_ref"):
        check_operation(ForwardBody(data=[routed]), TRAINER)


def test_helpers_may_leave_their_inputs_in_a_datum() -> None:
    check_operation(ForwardBody(data=[_datum(mask=_floats(1, 1, 0))]), TRAINER)


@pytest.mark.parametrize("rank", [0, -1, 9])
def test_a_rank_that_the_trainer_cannot_hold_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 8"):
        check_operation(InitTrainerServerBody(lora_rank=rank), TRAINER)


def test_other_bodies_pass() -> None:
    check_operation(SaveStateBody(name="fine.name-1_"), TRAINER)
