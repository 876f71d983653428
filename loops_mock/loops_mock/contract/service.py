"""A base class of tests: every rule and any calls in any order, against a service of yours.

```python
class TestMyService(ServiceContract):
    def open_target(self) -> Target:
        return Target("http://127.0.0.1:8000", api_key="...", base_model="my-model")
```
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar

import pytest

from loops_mock.contract.machine import make_machine, run_machine
from loops_mock.contract.rule import Rule, all_rules
from loops_mock.contract.running import Outcome, RuleResult, run_rules
from loops_mock.contract.target import Target


class ServiceContract:
    """The tests of a service; subclass it, name the class `Test...`, and say where the service is.

    A rule about something that the service does not offer is skipped, and says what is missing.

    Attributes:
        rules: the rules to check; all of them unless you choose.
        losses: the losses that the stateful machine asks for.
        seed: of the rules' data and of the machine's examples; None = another one for the machine
            at every run.
        max_examples: how many examples the machine tries; 0 = none.
        sums_are_exact: whether the service promises that a batch leaves the same bits in one call
            and in several.
    """

    rules: ClassVar[Sequence[Rule]] = ()
    losses: ClassVar[Sequence[str]] = ("cross_entropy",)
    seed: ClassVar[int | None] = 0
    max_examples: ClassVar[int] = 50
    sums_are_exact: ClassVar[bool] = False

    def open_target(self) -> Target:
        """Return the service under test; closed after the last test of the class."""
        raise NotImplementedError("a subclass returns the Target that is to be tested")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each rule."""
        if "contract_rule" in metafunc.fixturenames:
            chosen = self.rules or all_rules()
            metafunc.parametrize("contract_rule", chosen, ids=[each.id for each in chosen])

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Generator[Target]:
        """Open the service once for the class."""
        with cls().open_target() as opened:
            yield opened

    def test_rule(self, contract_rule: Rule, target: Target) -> None:
        """Check one rule of the written specification."""
        (result,) = run_rules(target.subject, [contract_rule], seed=self.seed or 0).results
        if result.outcome is Outcome.NOT_OFFERED:
            pytest.skip(f"not offered: {result.message}")
        assert result.is_kept, tell(result)

    def test_any_calls_in_any_order(self, target: Target) -> None:
        """Run the stateful machine."""
        machine = make_machine(
            target.subject, losses=self.losses, sums_are_exact=self.sums_are_exact
        )
        if self.max_examples:
            run_machine(machine, max_examples=self.max_examples, seed=self.seed)


def tell(result: RuleResult) -> str:
    """Return what a failed rule shows: the promise, what was seen, and the calls that show it."""
    lines = [f"{result.rule.id}: {result.rule.title}", result.message]
    lines += [f"  {name} = {value}" for name, value in result.seen.items()]
    lines += [f"  {made.asked} -> {made.answered}" for made in result.calls]
    return "\n".join([*lines, f"seed {result.seed}"])
