"""The page of backends lists every option of the JAX backend with the default that it has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from loops_backend_jax.config import BackendSettings
from loops_core.protocols.loss_specs import PROTOCOL_LOSSES


def test_the_options_and_their_defaults_are_those_of_the_backend(root: Path) -> None:
    page = (root / "docs" / "backends.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, flags=re.MULTILINE)
    fields = dataclasses.fields(BackendSettings)
    assert rows == [(field.name, str(field.default).replace("False", "false")) for field in fields]


def test_the_losses_with_their_inputs_and_settings_are_those_of_the_protocol(root: Path) -> None:
    page = (root / "docs" / "backends.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ?([^|]*) ?\| [^|]* \|$", page, flags=re.MULTILINE)
    found = {name: (inputs, settings.strip()) for name, inputs, settings in rows}
    expected = {
        spec.name: (
            ", ".join(f"`{each.name}{'' if each.required else '?'}`" for each in spec.inputs),
            ", ".join(f"`{each.name}` {str(each.default).lower()}" for each in spec.settings),
        )
        for spec in PROTOCOL_LOSSES
    }
    assert found == expected
