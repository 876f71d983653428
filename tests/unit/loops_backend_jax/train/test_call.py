"""A loss's settings: completed, checked, refused by name."""

from __future__ import annotations

import pytest
from tests.numerics.cases import GOLDEN

from loops_backend_jax.config import BackendSettings, load_model_config
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_backend_jax.models import make_model
from loops_backend_jax.train.call import make_plan
from loops_backend_jax.train.step import PassPlan
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


def plan(config: LossFnConfig) -> PassPlan:
    settings = BackendSettings()
    model = make_model(load_model_config(GOLDEN / "qwen3"), settings)
    return make_plan(model, settings, LOSS, config)


def test_absent_settings_take_their_defaults() -> None:
    assert plan({}).loss_settings == (("beta", 0.5), ("skip", False))
    assert plan({"skip": True, "beta": 1}).loss_settings == (("beta", 1), ("skip", True))


def test_equal_plans_compile_once() -> None:
    assert plan({"beta": 0.25}) == plan({"beta": 0.25})
    assert hash(plan({})) == hash(plan({}))


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
