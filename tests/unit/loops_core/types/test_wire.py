"""What every type that travels promises: it comes back equal, also from a later writer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loops_core.types.base import WireModel
from loops_core.types.frames import pack, unpack
from loops_mock.strategies import wire_types, wire_values

# Nearly sixty types share the time that one property takes elsewhere.
FEWER = settings(max_examples=settings().max_examples // 3)
EVERY_TYPE = pytest.mark.parametrize("cls", wire_types(), ids=lambda cls: cls.__name__)


@EVERY_TYPE
@FEWER
@given(data=st.data())
def test_every_type_comes_back_from_json(cls: type[WireModel], data: st.DataObject) -> None:
    value = data.draw(wire_values(cls))
    for by_alias in (True, False):
        assert cls.model_validate_json(value.model_dump_json(by_alias=by_alias)) == value


@EVERY_TYPE
@FEWER
@given(data=st.data())
def test_what_is_written_is_json_in_the_strict_sense(
    cls: type[WireModel], data: st.DataObject
) -> None:
    def refuse(token: str) -> object:
        raise AssertionError(f"{token} is no JSON")

    value = data.draw(wire_values(cls))
    read = json.loads(value.model_dump_json(by_alias=True), parse_constant=refuse)
    assert cls.model_validate(read) == value


@EVERY_TYPE
@FEWER
@given(data=st.data())
def test_every_type_comes_back_from_frames(cls: type[WireModel], data: st.DataObject) -> None:
    value = data.draw(wire_values(cls))
    assert unpack(pack(value), cls) == value


@EVERY_TYPE
@FEWER
@given(data=st.data())
def test_every_type_comes_back_from_its_python_form(
    cls: type[WireModel], data: st.DataObject
) -> None:
    value = data.draw(wire_values(cls))
    assert cls.model_validate(value.model_dump()) == value


@EVERY_TYPE
@FEWER
@given(data=st.data())
def test_unknown_fields_are_ignored(cls: type[WireModel], data: st.DataObject) -> None:
    value = data.draw(wire_values(cls))
    fields = json.loads(value.model_dump_json(by_alias=True))
    assert cls.model_validate({**fields, "field_of_a_later_version": 1}) == value
