"""The losses by name."""

from __future__ import annotations

import dataclasses

import pytest

from loops_backend_jax.losses import make_losses
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_core.errors import PluginError


def test_losses_of_plugins_stand_beside_the_built_in_ones() -> None:
    other = dataclasses.replace(CROSS_ENTROPY, name="other")
    assert make_losses([other]) == {"cross_entropy": CROSS_ENTROPY, "other": other}


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(PluginError, match="'cross_entropy'"):
        make_losses([CROSS_ENTROPY])
