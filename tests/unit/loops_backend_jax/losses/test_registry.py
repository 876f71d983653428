"""The losses by name."""

from __future__ import annotations

import dataclasses

import pytest

from loops_backend_jax.losses import make_losses
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_core.errors import PluginError
from loops_core.protocols import LossFunction
from loops_core.protocols.loss_specs import PROTOCOL_LOSSES


def test_losses_of_plugins_stand_beside_the_built_in_ones() -> None:
    other = dataclasses.replace(CROSS_ENTROPY, name="other")
    losses = make_losses([other])
    assert losses["other"] is other
    assert losses["cross_entropy"] is CROSS_ENTROPY


def test_every_loss_of_the_protocol_is_offered_as_it_is_specified() -> None:
    losses = make_losses()
    assert losses == {
        spec.name: LossFunction.from_spec(
            spec, compute=losses[spec.name].compute, combine=losses[spec.name].combine
        )
        for spec in PROTOCOL_LOSSES
    }


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(PluginError, match="'cross_entropy'"):
        make_losses([CROSS_ENTROPY])
