"""A loss's settings: completed, checked, refused by name."""

from __future__ import annotations

import pytest
from tests.numerics.cases import GOLDEN

from loops_backend_jax.config import BackendSettings, load_model_config
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_backend_jax.models import make_model
from loops_backend_jax.train.call import CallPlan, make_plan
from loops_core.errors import UsageError
from loops_core.protocols import LossFunction, LossSetting
from loops_core.types.training import LossFnConfig

LOSS = LossFunction(
    name="bounded",
    compute=CROSS_ENTROPY.compute,
    source="made up for this test",
    settings=(
        LossSetting(name="beta", default=0.5, minimum=0.0, maximum=1.0),
        LossSetting(name="skip", default=False),
    ),
)


def plan(config: LossFnConfig) -> CallPlan:
    settings = BackendSettings()
    model = make_model(load_model_config(GOLDEN / "qwen3"), settings)
    return make_plan(model, settings, LOSS, config)


def test_absent_settings_take_their_defaults() -> None:
    assert plan({}).settings == {"beta": 0.5, "skip": False}
    assert plan({"skip": True, "beta": 1}).settings == {"beta": 1, "skip": True}


def test_numbers_are_traced_and_flags_compiled_in() -> None:
    one, other = plan({"beta": 0.25}), plan({"beta": 0.75})
    assert one.passes == other.passes
    assert hash(one.passes) == hash(other.passes)
    assert (one.numbers, other.numbers) == ({"beta": 0.25}, {"beta": 0.75})
    assert one.passes != plan({"skip": True}).passes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gamma": 1.0}, r"'gamma'\] is not a setting of bounded: expected beta, skip"),
        ({"beta": "0.5"}, r"'beta'\] is '0.5': expected a finite number"),
        ({"beta": True}, r"'beta'\] is True: expected a finite number"),
        ({"beta": 1.5}, r"'beta'\] is 1.5: expected a number from 0.0 to 1.0"),
        ({"beta": float("nan")}, r"'beta'\] is nan"),
        ({"skip": 1.0}, r"'skip'\] is 1.0: expected true or false"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(config: LossFnConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan(config)
    assert caught.value.field == f"loss_fn_config[{next(iter(config))!r}]"
