"""What an adapter changes, and what it cannot be."""

from __future__ import annotations

import pytest
from tests.numerics.cases import GOLDEN

from loops_backend_jax.config import load_model_config
from loops_backend_jax.lora.adapter import (
    ALL_TARGETS,
    LINEAR_TARGETS,
    adapter_sites,
    make_adapter_spec,
)
from loops_core.errors import UsageError


@pytest.mark.parametrize(
    ("rank", "alpha", "targets", "message"),
    [
        (0, 32.0, LINEAR_TARGETS, "rank is 0"),
        (-1, 32.0, LINEAR_TARGETS, "rank is -1"),
        (True, 32.0, LINEAR_TARGETS, "rank is True"),
        (8, float("inf"), LINEAR_TARGETS, "alpha is inf"),
        (8, 32.0, (), r"targets are \(\)"),
        (8, 32.0, ("q_proj", "embed_tokens"), "expected at least one of q_proj"),
    ],
)
def test_a_wrong_spec_is_refused_by_name(
    rank: int, alpha: float, targets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_adapter_spec(rank=rank, alpha=alpha, targets=targets)


def test_targets_have_one_order_and_stand_once() -> None:
    spec = make_adapter_spec(rank=1, targets=("lm_head", "v_proj", "q_proj", "v_proj"))
    assert spec.targets == ("q_proj", "v_proj", "lm_head")


def test_sites_name_modules_as_the_field_does() -> None:
    sites = adapter_sites(load_model_config(GOLDEN / "qwen3"), ALL_TARGETS)
    assert [site.path[-1] for site in sites] == list(ALL_TARGETS)
    assert sites[0].module_names()[2] == "model.layers.2.self_attn.q_proj"
    assert (sites[0].fan_in, sites[0].fan_out) == (64, 96)
    assert sites[-1].module_names() == ("lm_head",)
    assert (sites[-1].fan_in, sites[-1].fan_out) == (64, 320)
