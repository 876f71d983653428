"""`python -m tests.mutants`: how many of the seeded faults the contract finds.

Every rule has to pass without a fault first. Then each mutant is tried in a process of its own. The
exit code is 0 where the contract finds at least 95 % of them, 1 where not, 2 where a rule fails
without a fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.scoring import (
    GOAL,
    MUTANT_LIMIT_S,
    take_baseline,
    to_json,
    try_all,
    write_hints,
)
from tests.mutants.trial import MOST_CALLS, Trial, find_mutant, try_mutant


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    options = _parse(arguments)
    if options.trial is not None:
        rules: list[str] = json.load(sys.stdin)
        trial = try_mutant(find_mutant(options.trial), rules, limit_s=MUTANT_LIMIT_S)
        _say(json.dumps(asdict(trial)))
        sys.stdout.flush()
        return 0
    if options.list:
        for mutant in MUTANTS.values():
            _say(f"{mutant.id:34} {mutant.room:13} {mutant.story}")
        return 0
    start = time.perf_counter()
    mutants = _chosen(options.only)
    baseline = take_baseline(sorted({mutant.place for mutant in mutants}))
    if baseline.broken and not options.anyway:
        _say("these rules fail without a fault:", *baseline.broken)
        return 2
    show = _quiet if options.json else _show
    trials = try_all(mutants, baseline, num_jobs=options.jobs, on_trial=show)
    if options.keep_hints:
        write_hints(trials)
    if options.json:
        _say(to_json(trials))
    else:
        _show_score(trials, seconds=time.perf_counter() - start)
    return 0 if sum(trial.is_found for trial in trials) >= GOAL * len(trials) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="ids, or beginnings of ids")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--list", action="store_true", help="print the mutants and their stories")
    parser.add_argument("--anyway", action="store_true", help="leave out rules that are broken")
    parser.add_argument("--keep-hints", action="store_true", help="write which rule found which")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _chosen(only: Sequence[str]) -> list[Mutant]:
    found = [
        mutant
        for mutant in MUTANTS.values()
        if not only or any(mutant.id.startswith(text) for text in only)
    ]
    if not found:
        raise SystemExit(f"no mutant has an id that begins with {' or '.join(only)}")
    return found


def _show(trial: Trial) -> None:
    if trial.is_found:
        long = " !" if trial.num_calls > MOST_CALLS else ""
        text = f"{trial.rule} ({trial.num_calls} calls{long}, {trial.outcome})"
    else:
        text = f"NOT FOUND by {trial.num_rules} rules {trial.message}"
    _say(f"{trial.mutant:34} {trial.seconds:5.1f} s  {text}")
    sys.stdout.flush()


def _show_score(trials: Sequence[Trial], *, seconds: float) -> None:
    found = [trial for trial in trials if trial.is_found]
    for trial in trials:
        if not trial.is_found:
            _say(f"not found: {trial.mutant}: {MUTANTS[trial.mutant].story}")
    most = max((trial.num_calls for trial in found), default=0)
    share = 100 * len(found) / len(trials)
    _say(
        f"{len(found)} of {len(trials)} mutants found: {share:.1f} %, "
        f"with at most {most} calls each, in {seconds:.0f} s"
    )


def _quiet(_: Trial) -> None:
    pass


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
