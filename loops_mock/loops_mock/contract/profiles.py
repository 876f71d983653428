"""Profiles: which rules a kind of service is held to. The set is open."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from loops_core.errors import UsageError
from loops_mock.contract.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A set of rules by name.

    Attributes:
        name: what it is called by.
        title: whom it is for, in one sentence.
        left_out: ids of rules, or their beginning up to a dot or hyphen, that are not asked.
    """

    name: str
    title: str
    left_out: frozenset[str] = field(default_factory=frozenset[str])

    def includes(self, rule: Rule) -> bool:
        """Tell whether a service of this profile is held to a rule."""
        return not any(is_meant(rule.id, text) for text in self.left_out)

    def select(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """Return the rules that the profile has."""
        return tuple(each for each in rules if self.includes(each))


def is_meant(rule_id: str, text: str) -> bool:
    """Tell whether a text means a rule: its id, or the beginning of it up to a dot or hyphen.

    >>> is_meant("submit.repeat-runs-once", "submit"), is_meant("submit.repeat-runs-once", "sub")
    (True, False)
    """
    rest = rule_id.removeprefix(text)
    return rule_id.startswith(text) and (rest == "" or rest[0] in ".-" or text[-1:] in (".", "-"))


def select_rules(rules: Iterable[Rule], only: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that one of the texts means; without texts all of them.

    A text that is a rule's id means that rule alone.

    Raises:
        UsageError: a text means no rule.
    """
    known, wanted = tuple(rules), tuple(only)
    for text in wanted:
        if not any(is_meant(each.id, text) for each in known):
            close = difflib.get_close_matches(text, [each.id for each in known], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"only={text!r} is no rule, nor the beginning of one; --list shows them{hint}",
                field="only",
            )
    if not wanted:
        return known
    exact = {each.id for each in known} & set(wanted)
    longer = [text for text in wanted if text not in exact]
    return tuple(
        each
        for each in known
        if each.id in exact or any(is_meant(each.id, text) for text in longer)
    )


OPEN: Final = frozenset(
    {
        "checkpoints.a-name-means-the-newest",
        "checkpoints.bad-names-are-refused",
        "health.version-never-falls",
        "losses.sums-and-means-do-not-mix",
        "losses.weight-zero-counts-nowhere",
        "optimizer.a-step-needs-gradients",
        "passes.forward-alone-is-no-gradient",
        "passes.top-k-logprobs-are-the-most-likely",
        "preference.dpo-is-the-formula",
        "resume.a-load-drops-waiting-gradients",
        "resume.waiting-gradients-are-saved",
        "rl.dppo",
        "sample-wire.staged-weights-do-not-swap",
        "submit.other-body-same-key-is-refused",
        "versions.grow-by-one-with-each-publication",
        "versions.never-fall",
        "versions.save-state-counts-where-it-publishes",
    }
)
"""Rules about what published documents leave open, or say in two ways: this project's answers."""

_PROFILES: Final[dict[str, Profile]] = {}


def register_profile(profile: Profile) -> None:
    """Add a profile; a plugin of Loops does so when it is imported.

    Raises:
        UsageError: another one has its name.
    """
    if _PROFILES.setdefault(profile.name, profile) != profile:
        raise UsageError(f"profile {profile.name!r} is there already: choose another name")


def profiles() -> tuple[Profile, ...]:
    """Return all profiles, sorted by name."""
    return tuple(_PROFILES[name] for name in sorted(_PROFILES))


def find_profile(name: str) -> Profile:
    """Return the profile of this name.

    Raises:
        UsageError: there is none; the message names those that there are.
    """
    if name not in _PROFILES:
        known = ", ".join(profile.name for profile in profiles())
        raise UsageError(f"profile {name!r} is not known: expected {known}", field="profile")
    return _PROFILES[name]


register_profile(
    Profile(
        name="loops-0.32",
        title="What published clients of version 0.32 need, and what their documents promise",
        left_out=OPEN,
    )
)
register_profile(
    Profile(name="loops", title="All of docs/protocol.md, with this project's answers to the rest")
)
