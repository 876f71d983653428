"""A rule: one promise of the protocol, with the check that tells whether a service keeps it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, final

if TYPE_CHECKING:
    from loops_mock.contract.subject import Subject

ErrorT = TypeVar("ErrorT", bound=BaseException)

Check = Callable[["Subject"], None]
"""Returns where the promise is kept; raises `CheckFailed` where not, `NotOffered` where it cannot
be asked of this service."""


@final
class CheckFailed(AssertionError):  # noqa: N818 - says what a check does
    """A service does not keep a rule.

    Attributes:
        message: what was expected.
        seen: what was there instead, by name.
    """

    def __init__(self, message: str, seen: Mapping[str, object] | None = None) -> None:
        """Keep the message and what was seen."""
        self.message = message
        self.seen = dict(seen or {})
        super().__init__(message)

    def __str__(self) -> str:
        """Return the message with what was seen."""
        seen = ", ".join(f"{name}={value!r}" for name, value in self.seen.items())
        return f"{self.message}; seen: {seen}" if seen else self.message


@final
class NotOffered(Exception):  # noqa: N818 - is no failure: the rule does not apply
    """The service does not offer what a rule is about; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One promise.

    Attributes:
        id: names it, `<subject>.<words-with-hyphens>`; the same in the written specification.
        title: the promise in one sentence.
        section: the number of its section in the written specification, docs/protocol.md.
        needs: features without which it does not apply, such as `http` or `loss:ppo`.
        check: tells whether a service keeps it.
    """

    id: str
    title: str
    section: str
    needs: frozenset[str]
    check: Check


_RULES: Final[dict[str, Rule]] = {}


def rule(
    rule_id: str, *, title: str, section: str, needs: Iterable[str] = ()
) -> Callable[[Check], Check]:
    """Return a decorator that makes a check a rule.

    Args:
        rule_id: `<subject>.<words-with-hyphens>`.
        title: the promise in one sentence, without a full stop.
        section: the number of its section in the written specification, docs/protocol.md, such as
            `2.7`.
        needs: features without which the rule does not apply; `loops_mock.contract.features`
            knows them.

    Raises:
        ValueError: two rules have one id.
    """

    def keep(check: Check) -> Check:
        if rule_id in _RULES and _RULES[rule_id].check.__module__ != check.__module__:
            raise ValueError(f"two rules have the id {rule_id!r}: rename one")
        _RULES[rule_id] = Rule(
            id=rule_id, title=title, section=section, needs=frozenset(needs), check=check
        )
        return check

    return keep


def all_rules() -> tuple[Rule, ...]:
    """Return every rule, sorted by file and then as the file has them."""
    home = importlib.import_module("loops_mock.contract.rules")
    for module in sorted(found.name for found in pkgutil.iter_modules(home.__path__)):
        importlib.import_module(f"{home.__name__}.{module}")
    return tuple(sorted(_RULES.values(), key=lambda each: each.check.__module__))


def expect(condition: object, message: str, /, **seen: object) -> None:
    """Return if the condition holds.

    Args:
        condition: what has to be true.
        message: what was expected, for the report.
        **seen: what was there instead.

    Raises:
        CheckFailed: it does not.
    """
    if not condition:
        raise CheckFailed(message, seen)


def expect_equal(seen: object, expected: object, what: str) -> None:
    """Return if both are equal.

    Raises:
        CheckFailed: they are not.
    """
    if seen != expected:
        raise CheckFailed(f"{what} should be {expected!r}", {"seen": seen})


def expect_raises(
    error_type: type[ErrorT] | tuple[type[ErrorT], ...], act: Callable[[], object], what: str
) -> ErrorT:
    """Return the error that `act` raises.

    Raises:
        CheckFailed: it raises none, or one of another class.
    """
    names = error_type if isinstance(error_type, tuple) else (error_type,)
    expected = " or ".join(each.__name__ for each in names)
    try:
        value = act()
    except error_type as error:
        return error
    except (CheckFailed, NotOffered):
        raise
    except Exception as error:
        raise CheckFailed(f"{what} should raise {expected}", {"raised": error}) from error
    raise CheckFailed(f"{what} should raise {expected}", {"returned": value})
