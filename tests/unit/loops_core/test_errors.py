"""What errors promise: no class and no field is lost, and old `except` clauses still hold."""

from __future__ import annotations

import concurrent.futures
import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core import errors
from loops_core.errors import (
    BusyError,
    ConflictError,
    LoopsError,
    NotFoundError,
    OperationCancelledError,
    PluginError,
    RemoteOpError,
    ResultTimeoutError,
    SamplerTerminatedError,
    SampleTimeoutError,
    ServerShutdownError,
    SharedFields,
    StalePolicyError,
    TransportError,
    UnknownRequestError,
    UnreachableError,
    UnsupportedError,
    UsageError,
    error_from_body,
    error_to_body,
)
from loops_core.types.operation import ErrorBody

TEXT = st.text(min_size=1, max_size=8)


def below(cls: type[LoopsError]) -> Iterator[type[LoopsError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from below(child)


CLASSES = [cls for cls in below(LoopsError) if cls.__module__ == errors.__name__]
EVERY_CLASS = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def fields_of(cls: type[LoopsError]) -> st.SearchStrategy[dict[str, object]]:
    """Return a strategy for keyword arguments of the class, drawn by the hints of its signature."""
    hints = get_type_hints(cls.__init__)
    by_hint = {
        str | None: TEXT,
        int | None: st.integers(-(2**63), 2**63),
        float | None: st.floats(0, 1e9),
    }
    own = {name: by_hint[hints[name]] for name in cls.own_fields}
    return st.fixed_dictionaries(
        {}, optional={**dict.fromkeys(SharedFields.__annotations__, TEXT), **own}
    )


def make(cls: type[LoopsError], message: str, fields: dict[str, object]) -> LoopsError:
    return cls(message, **fields)  # type: ignore[arg-type]  # drawn by the hints of this class


def check_same(error: LoopsError, other: BaseException) -> None:
    assert type(other) is type(error)
    assert isinstance(other, LoopsError)
    assert other.message == error.message
    assert other.fields() == error.fields()
    assert str(other) == str(error)


@EVERY_CLASS
@given(data=st.data())
def test_every_error_comes_back_from_pickle(cls: type[LoopsError], data: st.DataObject) -> None:
    error = make(cls, data.draw(st.text()), data.draw(fields_of(cls)))
    check_same(error, pickle.loads(pickle.dumps(error)))
    check_same(error, copy.copy(error))


@EVERY_CLASS
@given(data=st.data())
def test_every_error_comes_back_from_the_wire(cls: type[LoopsError], data: st.DataObject) -> None:
    error = make(cls, data.draw(st.text()), data.draw(fields_of(cls)))
    text = error_to_body(error).model_dump_json()
    check_same(error, error_from_body(ErrorBody.model_validate_json(text)))


@EVERY_CLASS
@given(data=st.data())
def test_a_copy_is_equal_and_another_object(cls: type[LoopsError], data: st.DataObject) -> None:
    error = make(cls, "m", data.draw(fields_of(cls)))
    check_same(error, error.copy())
    assert error.copy() is not error
    assert error.copy().__traceback__ is None


@EVERY_CLASS
def test_every_field_is_an_attribute_and_in_fields(cls: type[LoopsError]) -> None:
    names = (*SharedFields.__annotations__, *cls.own_fields)
    hints = get_type_hints(cls.__init__)
    numbered = {
        name: number if hints.get(name, str) in (int | None, float | None) else str(number)
        for number, name in enumerate(names)
    }
    error = make(cls, "m", {**numbered})
    assert error.fields() == numbered
    assert {name: getattr(error, name) for name in names} == numbered
    assert cls("m").fields() == {}


@EVERY_CLASS
def test_an_unknown_keyword_is_refused(cls: type[LoopsError]) -> None:
    with pytest.raises(TypeError, match="feild"):
        make(cls, "m", {"feild": "rank"})


@EVERY_CLASS
def test_options_are_keyword_only_and_own_fields(cls: type[LoopsError]) -> None:
    options = list(inspect.signature(cls).parameters.values())[1:]
    named = tuple(p.name for p in options if p.kind is inspect.Parameter.KEYWORD_ONLY)
    assert named == cls.own_fields
    assert [p.kind for p in options[len(named) :]] == [inspect.Parameter.VAR_KEYWORD]


def test_a_false_value_is_a_value() -> None:
    error = BusyError("m", retry_after_s=0.0)
    assert error.fields() == {"retry_after_s": 0.0}
    assert StalePolicyError("m", min_policy_version=0).copy().min_policy_version == 0


def test_an_unknown_code_keeps_what_every_error_has() -> None:
    body = ErrorBody(code="LaterError", message="m", fields={"run_id": "r", "shade": "green"})
    error = error_from_body(body)
    assert type(error) is LoopsError
    assert (error.message, error.fields()) == ("LaterError: m", {"run_id": "r"})


def test_fields_of_a_later_version_are_left_out() -> None:
    body = ErrorBody(code="BusyError", message="m", fields={"retry_after_s": 2, "shade": "green"})
    assert error_from_body(body).fields() == {"retry_after_s": 2}


def test_a_plugins_error_comes_back_and_hides_none_of_ours() -> None:
    ours = error_from_body(ErrorBody(code="UsageError", message="m"))

    class GreenError(UsageError):
        """An error of a plugin."""

    # A class of the same name as ours, further down.
    type("UsageError", (GreenError,), {})
    assert type(error_from_body(ErrorBody(code="GreenError", message="m"))) is GreenError
    assert type(error_from_body(ErrorBody(code="UsageError", message="m"))) is type(ours)


def test_text_is_the_message() -> None:
    assert str(UsageError("rank is 0", field="rank")) == "rank is 0"


def test_text_shows_the_hint() -> None:
    assert str(LoopsError("no room", hint="wait")) == "no room (wait)"


def test_text_names_the_operation_and_run() -> None:
    error = RemoteOpError("it failed", operation_id="op-1", operation="forward", run_id="r")
    assert str(error) == "it failed [forward op-1 of run r]"
    assert str(LoopsError("m", operation_id="op-1")) == "m [operation op-1]"
    assert str(LoopsError("m", run_id="r")) == "m"


@pytest.mark.parametrize("cls", [NotFoundError, ResultTimeoutError, OperationCancelledError])
def test_builtin_bases_do_not_change_the_text(cls: type[LoopsError]) -> None:
    assert str(cls("no 'a'")) == "no 'a'"


def test_an_operation_is_named_once() -> None:
    error = UsageError("m", field="rank", operation_id="first")
    named = error.for_operation(operation_id="second", operation="forward", run_id="r")
    assert named.fields() == {
        "field": "rank",
        "operation_id": "first",
        "operation": "forward",
        "run_id": "r",
    }
    assert error.fields() == {"field": "rank", "operation_id": "first"}


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (UsageError, ValueError),
        (UnsupportedError, NotImplementedError),
        (UnsupportedError, UsageError),
        (NotFoundError, LookupError),
        (OperationCancelledError, concurrent.futures.CancelledError),
        (ResultTimeoutError, TimeoutError),
        (SampleTimeoutError, TimeoutError),
        (SamplerTerminatedError, RuntimeError),
        (StalePolicyError, RuntimeError),
    ],
)
def test_builtin_except_clauses_catch(cls: type[LoopsError], base: type[Exception]) -> None:
    with pytest.raises(base):
        raise cls("m")


def test_published_errors_keep_their_attributes() -> None:
    failed = RemoteOpError(
        "m", error_class="ValueError", operation_id="o", operation="forward", run_id="r"
    )
    assert failed.error_class == "ValueError"
    assert failed.context == {"operation_id": "o", "operation": "forward", "run_id": "r"}
    assert failed.descriptor == "operation_id=o operation=forward run_id=r"
    ended = SamplerTerminatedError("m", deployment_id="d", status="FAILED")
    assert (ended.deployment_id, ended.status) == ("d", "FAILED")
    assert SampleTimeoutError("m", timeout=2.5).timeout == 2.5
    assert isinstance(UnknownRequestError("m"), Exception)


def test_context_leaves_out_what_is_not_known() -> None:
    assert RemoteOpError("m", run_id="r").context == {"run_id": "r"}
    assert RemoteOpError("m").descriptor == ""


def test_transport_errors_and_no_others_may_be_retried() -> None:
    retryable = {cls for cls in CLASSES if cls.retryable}
    assert retryable == {TransportError, UnreachableError, BusyError, ServerShutdownError}


def test_own_fields_are_where_the_error_names_things() -> None:
    assert ConflictError("m", first_operation_id="o").fields() == {"first_operation_id": "o"}
    assert NotFoundError("m", kind="model", name="x").fields() == {"kind": "model", "name": "x"}
    assert PluginError("m", field="base_url").field == "base_url"
