"""Refusals are errors of the tree and of httpx: every class, with all its fields."""

from __future__ import annotations

import pickle

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_core.test_errors import EVERY_CLASS, fields_of, make

from loops_core import errors
from loops_core.errors import LoopsError, error_from_body, error_to_body
from loops_transport_http.client.status_errors import refused
from loops_transport_http.wire.errors import read_error, write_error

REQUEST = httpx.Request("GET", "http://h/x")


def answered(error: LoopsError) -> tuple[LoopsError, httpx.Response]:
    status, headers, content = write_error(error)
    response = httpx.Response(status, headers=headers, content=content, request=REQUEST)
    return refused(read_error(status, response.headers, content), response), response


@EVERY_CLASS
@given(data=st.data())
def test_every_error_comes_back_as_its_class_and_as_httpx_has_it(
    cls: type[LoopsError], data: st.DataObject
) -> None:
    error = make(cls, data.draw(st.text(min_size=1)), data.draw(fields_of(cls)))
    got, response = answered(error)
    assert isinstance(got, cls)
    assert isinstance(got, httpx.HTTPStatusError)
    assert type(got).__name__ == cls.__name__
    assert (got.message, got.fields(), str(got)) == (error.message, error.fields(), str(error))
    assert got.response is response
    assert got.request is REQUEST


@EVERY_CLASS
def test_a_copy_for_a_waiter_keeps_both_natures(cls: type[LoopsError]) -> None:
    got, response = answered(cls("m"))
    named = got.for_operation(operation_id="o", operation="forward", run_id=None)
    assert isinstance(named, cls)
    assert isinstance(named, httpx.HTTPStatusError)
    assert named.response is response
    assert (named.operation_id, got.operation_id) == ("o", None)


@EVERY_CLASS
def test_a_pickle_is_the_plain_error(cls: type[LoopsError]) -> None:
    got, _ = answered(cls("m", field="f"))
    back = pickle.loads(pickle.dumps(got))
    assert type(back) is cls
    assert back.fields() == {"field": "f"}


@EVERY_CLASS
def test_an_error_that_came_over_the_wire_can_be_sent_on(cls: type[LoopsError]) -> None:
    got, _ = answered(cls("m"))
    assert type(error_from_body(error_to_body(got))) is cls


def test_the_tree_does_not_grow() -> None:
    answered(errors.UsageError("m"))
    grown = [cls for cls in errors.UsageError.__subclasses__() if cls.__module__ == errors.__name__]
    assert grown == [errors.UnsupportedError]


def test_code_that_catches_httpx_errors_sees_the_response() -> None:
    got, _ = answered(errors.NotFoundError("m", kind="run", name="r"))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        raise got
    assert raised.value.response.status_code == 404
