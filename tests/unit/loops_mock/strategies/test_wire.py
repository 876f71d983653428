"""What the strategies promise: none of the wire types is left out, and their fields vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import JsonValue, ValidationError

from loops_core.types.arrays import FLOATS
from loops_core.types.base import WireModel
from loops_core.types.datum import ImageAssetPointerChunk
from loops_core.types.deployment import Empty
from loops_core.types.operation import OPERATIONS
from loops_core.types.routes import ROUTES
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams
from loops_mock.strategies import Defect, tensors, wire_types, wire_values

SEARCH = settings(max_examples=2_000, database=None)


def test_every_type_of_every_route_is_there() -> None:
    types = {t for route in ROUTES for t in (route.reply_type, route.body_type) if t is not None}
    types |= {t for spec in OPERATIONS.values() for t in (spec.body_type, spec.result_type)}
    assert types <= set(wire_types())


def test_only_what_nobody_can_make_is_left_out() -> None:
    def below(cls: type[WireModel]) -> set[type[WireModel]]:
        return {cls}.union(*(below(child) for child in cls.__subclasses__()))

    ours = {cls for cls in below(WireModel) if cls.__module__.startswith("loops_core.")}
    assert ours - set(wire_types()) == {WireModel, ImageAssetPointerChunk}
    with pytest.raises(Unsatisfiable):
        find(wire_values(ImageAssetPointerChunk), lambda _: True, settings=SEARCH)


@pytest.mark.parametrize(
    "cls", [t for t in wire_types() if t.model_fields], ids=lambda t: t.__name__
)
def test_optional_fields_are_drawn_and_left_out(cls: type[WireModel]) -> None:
    optional = {
        name for name, f in cls.model_fields.items() if not f.is_required() and not f.exclude
    }
    drawn: set[str] = set()
    left_out: set[str] = set()

    @given(wire_values(cls))
    @settings(max_examples=40, derandomize=True, database=None)
    def look(value: WireModel) -> None:
        drawn.update(optional & value.model_fields_set)
        left_out.update(optional - value.model_fields_set)

    look()
    assert drawn == left_out == optional


@given(tensors())
def test_tensors_have_no_infinities_unless_asked(tensor: TensorData) -> None:
    assert tensor.dtype not in FLOATS or not np.isinf(tensor.data).any()


@pytest.mark.slow  # searches
def test_tensors_have_nan_infinities_and_no_axes() -> None:
    find(tensors(), lambda t: t.dtype in FLOATS and bool(np.isnan(t.data).any()), settings=SEARCH)
    find(
        tensors(infinities=True),
        lambda t: t.dtype in FLOATS and bool(np.isinf(t.data).any()),
        settings=SEARCH,
    )
    find(tensors(), lambda t: t.shape == [], settings=SEARCH)


@pytest.mark.parametrize(
    "cls", [t for t in wire_types() if t.model_fields], ids=lambda t: t.__name__
)
def test_every_defect_of_a_type_is_refused_by_its_field(cls: type[WireModel]) -> None:
    @given(wire_values(cls, invalid=True))
    @settings(max_examples=25, derandomize=True, database=None)
    def look(defect: Defect[dict[str, JsonValue]]) -> None:
        with pytest.raises(ValidationError) as caught:
            cls.model_validate(defect.value)
        assert defect.field in str(caught.value), defect

    look()


def test_bounds_names_and_kinds_are_broken_each_by_name() -> None:
    names: set[str] = set()

    @given(wire_values(AdamParams, invalid=True))
    @settings(max_examples=200, derandomize=True, database=None)
    def look(defect: Defect[dict[str, JsonValue]]) -> None:
        names.add(defect.name)

    look()
    fields = AdamParams.model_fields
    assert {f"{name} of another kind" for name in fields} < names
    assert {"eps at its lower bound", "beta1 at its upper bound"} < names
    assert {"learning_rate below its bound", "grad_clip_norm below its bound"} < names


def test_a_type_without_fields_has_no_defects() -> None:
    with pytest.raises(Unsatisfiable):
        find(wire_values(Empty, invalid=True), lambda _: True, settings=SEARCH)
