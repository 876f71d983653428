"""A profile says which rules are asked; rules are named by id or by its beginning."""

from __future__ import annotations

import pytest

from loops_core.errors import UsageError
from loops_mock.contract.profiles import (
    OPEN,
    Profile,
    find_profile,
    is_meant,
    profiles,
    register_profile,
    select_rules,
)
from loops_mock.contract.rule import all_rules


def test_rules_are_selected_by_id_or_by_its_beginning() -> None:
    rules = all_rules()
    assert select_rules(rules, []) == rules
    (one,) = select_rules(rules, ["submit.repeat-runs-once"])
    assert one.id == "submit.repeat-runs-once"
    assert len(select_rules(rules, ["sample-wire.prompt-logprobs"])) == 1  # another begins so
    assert {each.id.partition(".")[0] for each in select_rules(rules, ["submit"])} == {"submit"}
    with pytest.raises(UsageError, match=r"subm.*--list.*"):
        select_rules(rules, ["subm"])
    with pytest.raises(UsageError, match=r"did you mean 'submit\.repeat-runs-once'"):
        select_rules(rules, ["submit.repeat-run-once"])


def test_the_published_profile_leaves_out_what_is_open_and_nothing_else() -> None:
    whole, published = find_profile("loops"), find_profile("loops-0.32")
    rules = all_rules()
    assert whole.select(rules) == rules
    left_out = set(rules) - set(published.select(rules))
    assert all(any(is_meant(rule.id, text) for rule in left_out) for text in OPEN)
    assert len(published.select(rules)) >= 150


def test_an_unknown_profile_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"'loops-9'.*loops, loops-0\.32"):
        find_profile("loops-9")


def test_anybody_can_add_a_profile_but_not_replace_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loops_mock.contract.profiles._PROFILES", {})
    mine = Profile(name="mine", title="for a test", left_out=frozenset({"submit"}))
    register_profile(mine)
    register_profile(mine)
    assert profiles() == (mine,)
    with pytest.raises(UsageError, match="mine"):
        register_profile(Profile(name="mine", title="another"))
