"""The first operation in which two cassettes differ is found, whatever differs."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_mock.cassette.program import MOCK, crowd, make_datum, recorded
from typer.testing import CliRunner

from loops_core import AdamParams, ServiceClient
from loops_core.cli import make_app
from loops_mock.cassette import record
from loops_mock.cassette.diffing import diff_cassettes
from loops_mock.cassette.kinds import is_drawn
from loops_mock.cassette.parsing import load_cassette
from loops_mock.cassette.steps import steps_of
from loops_mock.cassette.tape import Cassette, Outcome, RecordedCall
from loops_mock.cassette.values import Encoded, from_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cassettes")


@pytest.fixture(scope="module")
def tape(folder: Path) -> Cassette:
    recorded(folder / "a.loops", steps=4)
    return load_cassette(folder / "a.loops")


@pytest.fixture(scope="module")
def again(folder: Path) -> Path:
    recorded(folder / "b.loops", steps=4)
    return folder / "b.loops"


def _changed(value: Encoded, pick: random.Random) -> Encoded | None:
    """Return the value with one number changed: a bit of a buffer, or a digit of the text."""
    if value.buffers and pick.random() < 0.7:
        number = pick.randrange(len(value.buffers))
        raw = bytearray(value.buffers[number])
        raw[pick.randrange(len(raw) // 4) * 4] ^= 1
        buffers = [*value.buffers]
        buffers[number] = bytes(raw)
        return Encoded(value.text, value.spans, buffers)
    text = value.text.decode()
    places = [place for place in range(1, len(text) - 1) if _is_digit_of_a_number(text, place)]
    if not places:
        return None
    place = pick.choice(places)
    digit = str((int(text[place]) + 1) % 9 + 1)
    return Encoded((text[:place] + digit + text[place + 1 :]).encode(), value.spans, value.buffers)


def _is_digit_of_a_number(text: str, place: int) -> bool:
    start = text.rfind(":", 0, place) + 1
    is_number = text[start:place].replace(".", "").lstrip("-").isdigit() or start == place
    field = text[:start].rpartition('"')[0].rpartition('"')[2]
    is_value = field.replace("_", "").isalpha() and field not in {"frame", "size_bytes"}
    return text[place].isdigit() and is_number and is_value


def _with_call(tape: Cassette, call: RecordedCall, changed: list[RecordedCall]) -> Cassette:
    place = tape.calls.index(call)
    return replace(tape, calls=[*tape.calls[:place], *changed, *tape.calls[place + 1 :]])


@given(pick=st.randoms(use_true_random=False), where=st.sampled_from(["sent", "received"]))
def test_a_planted_difference_is_found_where_it_was_planted(
    tape: Cassette, pick: random.Random, where: str
) -> None:
    done = [call for call in tape.calls if is_drawn(call)]
    place = pick.randrange(len(done))
    call = done[place]
    operation = _operation_of(call)
    if where == "sent":
        body = None if call.content.body is None else _changed(call.content.body, pick)
        if body is None:
            return
        other = _with_call(tape, call, [replace(call, content=replace(call.content, body=body))])
    else:
        outcome = call.outcome if operation is None else tape.results[operation]
        reply = None if outcome.reply is None else _changed(outcome.reply, pick)
        if reply is None:
            return
        if operation is None:
            other = _with_call(tape, call, [replace(call, outcome=Outcome(reply=reply))])
        else:
            other = replace(tape, results={**tape.results, operation: Outcome(reply=reply)})
    for any_order in (False, True):
        found = diff_cassettes(tape, other, any_order=any_order)
        assert found is not None
        assert found.place == place + 1
        assert any_order or found.part == where
        assert found.difference.first != found.difference.second


@given(pick=st.randoms(use_true_random=False), kind=st.sampled_from(["missing", "twice", "swap"]))
def test_a_missing_repeated_or_moved_operation_is_found(
    tape: Cassette, pick: random.Random, kind: str
) -> None:
    done = [call for call in tape.calls if is_drawn(call)]
    place = pick.randrange(len(done) - 1)
    call, following = done[place], done[place + 1]
    match kind:
        case "missing":
            other = _with_call(tape, call, [])
        case "twice":
            other = _with_call(tape, call, [call, call])
        case _:
            moved = [each for each in tape.calls if each is not call]
            moved.insert(moved.index(following) + 1, call)
            other = replace(tape, calls=moved)
    found = diff_cassettes(tape, other)
    assert found is not None
    assert found.place == place + (2 if kind == "twice" else 1)


def test_two_recordings_of_one_program_are_the_same_run(tape: Cassette, again: Path) -> None:
    assert diff_cassettes(tape, load_cassette(again)) is None


@pytest.mark.slow
def test_threads_make_no_difference_in_any_order(tmp_path: Path) -> None:
    numbers = list(range(30))
    for name, order in (("a", numbers), ("b", numbers[::-1]), ("c", [*numbers[:-1], 99])):
        with record(tmp_path / name):
            crowd(MOCK, threads=8, order=order)
    first, second, third = (load_cassette(tmp_path / name) for name in "abc")
    assert diff_cassettes(first, second, any_order=True) is None
    assert diff_cassettes(first, second) is not None
    found = diff_cassettes(first, third, any_order=True)
    assert found is not None
    assert found.part == "sent"


@pytest.mark.slow
@pytest.mark.parametrize(("step", "what"), [(0, "lr"), (2, "token"), (1, "loss"), (3, "name")])
def test_a_program_that_differs_in_one_step_differs_there(
    folder: Path, step: int, what: str
) -> None:
    def run(path: Path, changed: int | None) -> Cassette:
        with record(path, overwrite=True), ServiceClient(base_url=MOCK) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
            for each in range(4):
                it = each == changed
                config = {"skip_token_normalization": True} if it and what == "loss" else None
                data = [make_datum(each + (100 if it and what == "token" else 0))]
                trainer.forward_backward(data, loss_fn_config=config).result()
                rate = 2e-3 if it and what == "lr" else 1e-3
                trainer.optim_step(AdamParams(learning_rate=rate)).result()
                trainer.save_state(f"s{each}{'x' if it and what == 'name' else ''}").result()
        return load_cassette(path)

    found = diff_cassettes(run(folder / "p", None), run(folder / "q", step))
    assert found is not None
    offset = {"token": 0, "loss": 0, "lr": 1, "name": 2}[what]
    assert found.place == 3 + 3 * step + offset
    assert found.part == "sent"


def test_the_commands_show_and_compare(folder: Path, tape: Cassette, again: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(make_app(), ["cassette", *arguments])
        return done.exit_code, done.output

    assert run("diff", str(tape.path), str(again)) == (0, "the same run\n")
    recorded(folder / "c.loops", steps=4, rank=2)
    code, told = run("diff", str(tape.path), str(folder / "c.loops"))
    assert code == 1
    assert "operation 1: create_trainer (call 2 and call 2)" in told
    assert "sent lora_rank: 4 / 2" in told
    code, told = run("show", str(tape.path))
    assert code == 0
    assert "recorded at inproc:mock" in told
    assert "forward_backward          run 1" in told
    number = next(step.number for step in steps_of(tape) if step.route == "forward_backward")
    code, told = run("show", str(tape.path), "--call", str(number))
    assert code == 0
    assert '"loss_fn": "cross_entropy"' in told


def _operation_of(call: RecordedCall) -> str | None:
    assert call.outcome.reply is not None
    operation: str | None = from_json(call.outcome.reply.text).get("operation_id")
    return operation
