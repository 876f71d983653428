"""Settings of a loss: defaults fill in, and what the loss does not take is refused by name."""

from __future__ import annotations

from typing import get_args

import pytest

from loops_core.errors import UsageError
from loops_core.protocols.loss_settings import complete_settings
from loops_core.protocols.loss_specs import CROSS_ENTROPY, DPO, DPPO, PPO, PROTOCOL_LOSSES
from loops_core.protocols.losses import LossFunction
from loops_core.types.training import LossFnConfig, LossFnType

DEFAULTS = {
    "cross_entropy": {"skip_token_normalization": False},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "cispo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "dro": {"beta": 0.05},
    "dpo": {"beta": 0.1, "label_smoothing": 0.0},
    "dppo": {"dppo_mask_high": 0.2, "dppo_mask_low": 0.2, "adv_tau": 1.0, "kl_tau": 1e-3},
}


def test_every_loss_of_the_protocol_has_its_settings_and_defaults() -> None:
    found = {spec.name: complete_settings(spec, {}) for spec in PROTOCOL_LOSSES}
    assert found == DEFAULTS
    assert set(found) == set(get_args(LossFnType))


def test_whole_numbers_are_taken_as_floats() -> None:
    beta = complete_settings(DPO, {"beta": 1})["beta"]
    assert (beta, type(beta)) == (1.0, float)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"clip_low": 0.8}, r"\['clip_low'\] is not a setting of ppo.*did you mean 'clip_low_thr"),
        ({"clip_low_threshold": "0.8"}, r"_low_threshold'\] is '0.8': expected a finite number"),
        ({"clip_low_threshold": True}, r"is True: expected a finite number"),
        ({"clip_low_threshold": float("nan")}, r"is nan: expected a finite number"),
        ({"clip_high_threshold": float("inf")}, r"is inf: expected a finite number"),
        ({"clip_high_threshold": 10**400}, r"expected a finite number"),
        ({"clip_low_threshold": -0.1}, r"is -0.1: expected a number from 0.0 to inf"),
        (
            {"clip_low_threshold": 1.3},
            r"is 1.3: expected at most clip_high_threshold, which is 1.2",
        ),
        ({"clip_high_threshold": 0.5}, r"_low_threshold'\] is 0.8: expected at most"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(config: LossFnConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        complete_settings(PPO, config)
    assert str(caught.value.field).startswith("loss_fn_config['clip_")


def test_label_smoothing_is_at_most_a_half() -> None:
    assert complete_settings(DPO, {"label_smoothing": 0.5})["label_smoothing"] == 0.5
    with pytest.raises(UsageError, match=r"from 0.0 to 0.5"):
        complete_settings(DPO, {"label_smoothing": 0.6})


def test_only_cross_entropy_skips_normalisation() -> None:
    assert complete_settings(CROSS_ENTROPY, {"skip_token_normalization": True})
    with pytest.raises(UsageError, match="not a setting of dppo"):
        complete_settings(DPPO, {"skip_token_normalization": True})


def test_an_implementation_says_what_its_specification_says() -> None:
    for spec in PROTOCOL_LOSSES:
        made = LossFunction.from_spec(spec, compute=lambda lp, _inputs, _settings: lp)
        assert (made.name, made.inputs, made.settings) == (spec.name, spec.inputs, spec.settings)
        assert (made.rows_per_term, made.hides_inactive) == (
            spec.rows_per_term,
            spec.hides_inactive,
        )
