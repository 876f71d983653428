"""Stop strings are found across tokens, wherever chunks of decoding end; ids come from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_backend_jax.sample.conftest import PIECES, SPECIAL, TinyText

from loops_backend_jax.sample.stops import end_of_sequence_ids, find_string_stop
from loops_core.errors import CheckpointError


def found(text: TinyText, stops: tuple[str, ...], *pieces: str | bytes) -> tuple[int, str] | None:
    stop = find_string_stop(text.encode(*pieces), stops, text.decoder)
    return None if stop is None else (stop.num_tokens, stop.text)


def test_a_stop_string_that_spans_tokens_is_found(tiny_text: TinyText) -> None:
    assert found(tiny_text, ("STOP",), "Hello", "ST", "OP", "a") == (1, "Hello")


def test_a_token_with_text_before_the_stop_string_stays_and_its_text_is_cut(
    tiny_text: TinyText,
) -> None:
    assert found(tiny_text, ("STOP",), "Hello", "ĠSTO", "P!", "a") == (2, "Hello ")
    assert found(tiny_text, ("\n\n",), "Hello", ".ĊĊ", "a") == (2, "Hello.")


def test_a_stop_string_at_the_start_leaves_nothing(tiny_text: TinyText) -> None:
    assert found(tiny_text, ("Hel",), "Hello") == (0, "")


def test_without_a_match_nothing_ends(tiny_text: TinyText) -> None:
    assert found(tiny_text, ("STOP", "x"), "Hello", "ST") is None


def test_the_string_that_ends_first_wins_and_of_those_the_longest(tiny_text: TinyText) -> None:
    assert found(tiny_text, ("STOPa", "TO"), "b", "ST", "OP", "a") == (2, "bS")
    assert found(tiny_text, ("P", "TOP"), "b", "ST", "OP", "a") == (2, "bS")


def test_a_special_token_is_matched_by_its_name_and_left_out_of_the_text(
    tiny_text: TinyText,
) -> None:
    assert found(tiny_text, (SPECIAL,), "Hello", SPECIAL, "a") == (1, "Hello")
    assert found(tiny_text, ("a",), "Hello", SPECIAL, "a") == (2, "Hello")
    assert found(tiny_text, ("end",), "Hello", SPECIAL, "a") == (2, "Hello")


def test_a_character_of_several_tokens_counts_once_it_is_whole(tiny_text: TinyText) -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert found(tiny_text, ("é",), "a", first) is None
    assert found(tiny_text, ("é",), "a", first, second, "b") == (1, "a")
    assert found(tiny_text, ("b",), "a", first, second, "b") == (3, "aé")


PIECE = st.one_of(
    st.sampled_from([*PIECES, SPECIAL]), st.sampled_from([b"\xc3", b"\xa9", b"\xe2\x82", b" "])
)


@given(
    pieces=st.lists(PIECE, max_size=14),
    stops=st.lists(
        st.sampled_from(["a", "ab", "STOP", "OP", "\n\n", ".\n", "é", "P!a", " wo"]), min_size=1
    ),
    chunk=st.integers(1, 5),
)
def test_it_does_not_matter_how_many_tokens_are_looked_at_together(
    tiny_text: TinyText, pieces: list[str | bytes], stops: list[str], chunk: int
) -> None:
    tokens = tiny_text.encode(*pieces)
    whole = find_string_stop(tokens, stops, tiny_text.decoder)
    lengths = [*range(chunk, len(tokens), chunk), len(tokens)]
    prefixes = (find_string_stop(tokens[:n], stops, tiny_text.decoder) for n in lengths)
    assert next((stop for stop in prefixes if stop is not None), None) == whole
    if whole is not None:
        text = tiny_text.decoder.decode(tokens, special=False)
        assert text.startswith(whole.text)


def write(directory: Path, name: str, eos: object) -> None:
    (directory / name).write_text(json.dumps({"eos_token_id": eos}))


def test_ids_of_both_files_end_a_sequence(tmp_path: Path) -> None:
    assert end_of_sequence_ids(tmp_path) == frozenset()
    write(tmp_path, "config.json", 2)
    assert end_of_sequence_ids(tmp_path) == {2}
    write(tmp_path, "generation_config.json", [7, 2, 9])
    assert end_of_sequence_ids(tmp_path) == {2, 7, 9}
    write(tmp_path, "config.json", None)
    assert end_of_sequence_ids(tmp_path) == {2, 7, 9}


@pytest.mark.parametrize("eos", ["2", [2, 0.5], True, {}])
def test_an_end_that_is_no_id_is_named(tmp_path: Path, eos: object) -> None:
    write(tmp_path, "config.json", eos)
    with pytest.raises(CheckpointError, match="eos_token_id"):
        end_of_sequence_ids(tmp_path)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        end_of_sequence_ids(tmp_path)
