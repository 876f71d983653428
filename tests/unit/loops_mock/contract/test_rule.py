"""Rules are found by id; a check says what was expected and what was seen."""

from __future__ import annotations

import pytest

from loops_mock.contract.rule import (
    CheckFailed,
    all_rules,
    expect,
    expect_equal,
    expect_raises,
    rule,
)


def test_every_rule_has_an_id_of_its_own_in_the_agreed_form() -> None:
    ids = [each.id for each in all_rules()]
    assert len(set(ids)) == len(ids)
    assert all(each.partition(".")[2].replace("-", "").isalnum() for each in ids)
    assert not [each.title for each in all_rules() if each.title.endswith(".")]


def test_two_rules_cannot_have_one_id() -> None:
    with pytest.raises(ValueError, match=r"submit\.repeat-runs-once"):
        rule("submit.repeat-runs-once", title="x", section="0")(lambda subject: None)


def test_a_failed_check_says_what_was_expected_and_seen() -> None:
    expect(True, "fine")
    with pytest.raises(CheckFailed, match=r"a number; seen: message='x'"):
        expect(False, "a number", message="x")
    with pytest.raises(CheckFailed, match=r"the status should be 202; seen: seen=200"):
        expect_equal(200, 202, "the status")


def test_an_expected_error_is_returned_and_any_other_is_a_failure() -> None:
    assert isinstance(expect_raises(ValueError, lambda: int("x"), "it"), ValueError)
    with pytest.raises(CheckFailed, match="it should raise KeyError; seen: raised"):
        expect_raises(KeyError, lambda: int("x"), "it")
    with pytest.raises(CheckFailed, match="it should raise KeyError; seen: returned=3"):
        expect_raises(KeyError, lambda: 3, "it")
