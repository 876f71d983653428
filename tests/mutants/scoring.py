"""All mutants' trials, each in a process of its own, and the score."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

from tests.mutants.catalogue import MUTANTS
from tests.mutants.machine import MACHINE
from tests.mutants.mutant import Mutant, Place
from tests.mutants.trial import Trial, passing_rules

from loops_mock.contract.running import Outcome

GOAL: Final = 0.95
"""The share of mutants that the contract has to find."""

MUTANT_LIMIT_S: Final = 90.0
"""No further rule is begun for a mutant after so many seconds."""

_KILL_S: Final = 60.0
"""A trial that is not over so long after its limit is ended, and has found nothing."""

_HINTS: Final = Path(__file__).with_name("hints.json")
"""The rule that found each mutant last: it is tried first, which changes nothing but the time."""


_TRAINING: Final = "passes data losses rl preference optimizer adapters"
_LIKELY: Final = {
    "passes": _TRAINING,
    "steps": "optimizer adapters losses passes",
    "load": "resume checkpoints isolation",
    "save": "checkpoints isolation resume refusals",
    "ttl": "ttl checkpoints",
    "listing": "checkpoints checkpoint-files",
    "files": "checkpoint-files checkpoints",
    "publish": "publishing versions sample-wire samplers isolation",
    "pin": "publishing versions",
    "floor": "versions publishing",
    "version": "versions sample-wire health samplers publishing",
    "sample": "sampling sample-wire logprobs",
    "scores": "logprobs sample-wire",
    "queue": "order idempotency futures isolation submit retrieve cancel",
    "recovery": "retries order idempotency resume publishing versions",
    "create": "runs adapters samplers sessions",
    "init": "adapters isolation submit",
    "run": "runs",
    "owner": "addressing runs",
    "capabilities": "sessions",
    "checks": "refusals errors",
    "health": "health",
    "wire": "errors submit retrieve addressing sample-wire",
    "parts": "extensions chunking",
    "links": "checkpoint-files",
    "client": "idempotency futures retries refusals order optimizer losses publishing resume",
    "transport": "idempotency versions publishing futures sample-wire",
}
"""The subjects of the rules that are tried first; an order, nothing else."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the rules say of a service without a fault.

    Attributes:
        passing: ids of the rules that pass in each place, the quick ones first.
        broken: `rule: message` of those that do not, and should.
    """

    passing: dict[Place, list[str]]
    broken: list[str]


def take_baseline(places: Iterable[Place]) -> Baseline:
    """Return what the rules say of a service without a fault, in each of these places."""
    passing: dict[Place, list[str]] = {}
    broken: list[str] = []
    for place in places:
        results = passing_rules(place)
        quick_first = sorted(results, key=lambda result: result.seconds)
        passing[place] = [r.rule.id for r in quick_first if r.outcome is Outcome.PASSED]
        if place != "world":  # rules need not allow for faults: those that do are used there
            broken += [f"{r.rule.id} ({place}): {r.message}" for r in results if not r.is_kept]
    return Baseline(passing=passing, broken=broken)


def try_all(
    mutants: Sequence[Mutant],
    baseline: Baseline,
    *,
    num_jobs: int,
    on_trial: Callable[[Trial], None],
) -> list[Trial]:
    """Return what came of each mutant, in order; `on_trial` is told each at once."""
    hints = read_hints()

    def run(mutant: Mutant) -> Trial:
        rules = in_order(baseline.passing[mutant.place], hints.get(mutant.id, ""), mutant.id)
        trial = run_trial(mutant, rules)
        on_trial(trial)
        return trial

    with ThreadPoolExecutor(num_jobs) as jobs:
        return list(jobs.map(run, mutants))


def run_trial(mutant: Mutant, rules: Sequence[str]) -> Trial:
    """Return what came of one mutant, tried in a process of its own."""
    command = [sys.executable, "-m", "tests.mutants", "--trial", mutant.id]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit_s = MUTANT_LIMIT_S + _KILL_S
    try:
        told, log = process.communicate(json.dumps(list(rules)), timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Trial(mutant=mutant.id, rule=None, message="the trial did not end", seconds=limit_s)
    if process.returncode != 0:
        last = log.strip().splitlines()[-1:]
        return Trial(mutant=mutant.id, rule=None, message=f"the trial failed: {last}")
    return Trial.from_json(told.splitlines()[-1])


def in_order(rules: Sequence[str], hint: str, mutant_id: str) -> list[str]:
    """Return the rules with the hinted one first, then those whose subject may be the mutant's."""
    likely = _LIKELY.get(mutant_id.partition(".")[0], "").split()

    def place(rule_id: str) -> int:
        subject = rule_id.partition(".")[0]
        if rule_id == MACHINE.id:
            return len(likely) + 1
        return likely.index(subject) if subject in likely else len(likely)

    return sorted(rules, key=lambda rule_id: (rule_id != hint, place(rule_id)))


def read_hints() -> dict[str, str]:
    """Return the rule that found each mutant last."""
    return json.loads(_HINTS.read_text()) if _HINTS.exists() else {}


def write_hints(trials: Iterable[Trial]) -> None:
    """Keep which rule found which mutant, for those that exist."""
    found = {**read_hints(), **{trial.mutant: trial.rule for trial in trials if trial.rule}}
    kept = {mutant: rule for mutant, rule in sorted(found.items()) if mutant in MUTANTS}
    _HINTS.write_text(json.dumps(kept, indent=1) + "\n")


def to_json(trials: Sequence[Trial]) -> str:
    """Return the report for programs."""
    found = sum(trial.is_found for trial in trials)
    return json.dumps(
        {
            "score": found / len(trials),
            "found": found,
            "mutants": len(trials),
            "trials": [asdict(trial) | {"num_calls": trial.num_calls} for trial in trials],
        },
        indent=1,
    )
