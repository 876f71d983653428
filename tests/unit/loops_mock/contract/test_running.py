"""Rules are run once each, within their time, and what came of each is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from loops_core.errors import UnsupportedError, UsageError
from loops_core.types import routes
from loops_core.types.routes import Call
from loops_mock.contract.rule import CheckFailed, NotOffered, Rule, expect
from loops_mock.contract.running import Outcome, RuleResult, run_rules
from loops_mock.contract.subject import Subject
from loops_mock.contract.target import Target


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with Target("inproc:mock?data_dir=:memory:") as opened:
        yield opened


def a_rule(check: Callable[[Subject], None], *needs: str, name: str = "toy.rule") -> Rule:
    return Rule(id=name, title="a toy", section="0", needs=frozenset(needs), check=check)


def run(target: Target, check: Callable[[Subject], None], *needs: str) -> RuleResult:
    report = run_rules(target.subject, [a_rule(check, *needs)], seed=3)
    (result,) = report.results
    assert report.is_kept == result.is_kept
    return result


def test_a_check_that_returns_has_passed_and_keeps_no_calls(target: Target) -> None:
    result = run(target, lambda subject: subject.trainer().health())
    assert (result.outcome, result.calls, result.is_kept) == (Outcome.PASSED, (), True)


def test_a_failure_tells_what_was_seen_and_the_calls_that_led_to_it(target: Target) -> None:
    def check(subject: Subject) -> None:
        subject.trainer().forward(subject.data()).result()
        expect(False, "the sum should be 3", total=2)

    result = run(target, check)
    assert (result.outcome, result.message) == (Outcome.FAILED, "the sum should be 3")
    assert result.seen == {"total": "2"}
    assert [made.asked.partition("(")[0] for made in result.calls] == [
        "create_session",
        "create_trainer",
        "health",
        "init_trainer_server",
        "retrieve",
        "forward",
        "retrieve",
    ]
    assert result.calls[-2].asked.count("target_tokens") == 1  # shrunk from three rows to one


def test_a_failure_that_needs_its_rows_is_shown_with_them(target: Target) -> None:
    def check(subject: Subject) -> None:
        data = subject.data()
        expect(len(data) < 3, "few rows", rows=len(data))

    assert run(target, check).seen == {"rows": "3"}


@pytest.mark.parametrize("refusal", [NotOffered("no such thing"), UnsupportedError("not here")])
def test_what_is_not_offered_is_no_failure(target: Target, refusal: Exception) -> None:
    def check(_: Subject) -> None:
        raise refusal

    result = run(target, check)
    assert (result.outcome, result.message) == (Outcome.NOT_OFFERED, str(refusal))
    assert result.is_kept


def test_a_rule_whose_needs_are_not_met_is_not_run(target: Target) -> None:
    result = run(target, lambda subject: expect(False, "never run"), "http")
    assert (result.outcome, result.message) == (Outcome.NOT_OFFERED, "http")


def test_what_a_check_dies_of_is_an_error(target: Target) -> None:
    def check(_: Subject) -> None:
        raise UsageError("nobody expected this")

    result = run(target, check)
    assert (result.outcome, result.is_kept) == (Outcome.ERROR, False)
    assert result.message == "UsageError: nobody expected this"


def test_a_rule_that_takes_too_long_is_left_behind(target: Target) -> None:
    release = threading.Event()
    slow = a_rule(lambda _: expect(release.wait(60), "released"), name="toy.slow")
    quick = a_rule(lambda _: None, name="toy.quick")
    report = run_rules(target.subject, [slow, quick], timeout_s=0.05)
    release.set()
    assert [result.outcome for result in report.results] == [Outcome.ERROR, Outcome.PASSED]
    assert "0.05 s" in report.results[0].message


def test_a_rule_draws_the_same_whatever_else_is_run(target: Target) -> None:
    drawn: list[list[int]] = []
    draws = a_rule(lambda subject: drawn.append(subject.tokens()), name="toy.draws")
    other = a_rule(lambda subject: None, name="toy.other")
    run_rules(target.subject, [draws], seed=1)
    run_rules(target.subject, [other, draws], seed=1)
    run_rules(target.subject, [draws], seed=2)
    assert drawn[0] == drawn[1] != drawn[2]


def test_each_result_is_told_at_once(target: Target) -> None:
    told: list[str] = []
    rules = [a_rule(lambda _: told.append("run"), name=f"toy.{n}") for n in range(2)]
    run_rules(target.subject, rules, on_result=lambda result: told.append(result.rule.id))
    assert told == ["run", "toy.0", "run", "toy.1"]


def test_secrets_are_in_no_result() -> None:
    with Target("inproc:mock?data_dir=:memory:", api_key="s3cret-key") as target:

        def check(subject: Subject) -> None:
            subject.log.add("Authorization s3cret-key", "s3cret-key", 0.0)
            raise CheckFailed("not s3cret-key", {"key": "s3cret-key"})

        (result,) = run_rules(target.subject, [a_rule(check)]).results
    assert "s3cret-key" not in repr(result)
    assert "***" in result.message


def test_the_runs_of_a_rule_are_ended_after_it(target: Target) -> None:
    made: list[str] = []
    run(target, lambda subject: made.append(subject.trainer().run_id or ""))
    call = Call(route=routes.GET_RUN, path_args={"run_id": made[0]})
    assert target._transport.send(call).run.status.name == "INACTIVE"  # pyright: ignore[reportPrivateUsage]


def test_rules_that_run_side_by_side_keep_their_order(target: Target) -> None:
    met = threading.Barrier(3, timeout=60)

    def meet(_: Subject) -> None:
        met.wait()

    rules = [a_rule(meet, name=f"toy.{n}") for n in range(3)]
    report = run_rules(target.subject, rules, num_at_once=3)
    assert [(each.rule.id, each.outcome) for each in report.results] == [
        (f"toy.{n}", Outcome.PASSED) for n in range(3)
    ]


@pytest.mark.parametrize("num_at_once", [1, 2])
def test_what_is_told_the_results_can_end_the_run(target: Target, num_at_once: int) -> None:
    def stop(_: RuleResult) -> None:
        raise UsageError("enough")

    rules = [a_rule(lambda subject: None, name=f"toy.{n}") for n in range(5)]
    with pytest.raises(UsageError, match="enough"):
        run_rules(target.subject, rules, on_result=stop, num_at_once=num_at_once)
