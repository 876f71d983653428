"""Runs the contract on the mock under many seeds, and says which of them failed.

Each run checks every rule in process and some examples of the stateful machine, with the data and
the examples of its own seed. The exit code is 1 where a run failed.
"""

from __future__ import annotations

import argparse
import sys
import time

from loops_mock.contract.machine import make_machine, run_machine
from loops_mock.contract.rule import Rule, all_rules
from loops_mock.contract.running import run_rules
from loops_mock.contract.service import tell
from loops_mock.contract.target import Target


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--examples", type=int, default=20, help="of the machine in each run")
    parser.add_argument("--url", default="inproc:mock?data_dir=:memory:", help="the service")
    parser.add_argument("--every", type=int, default=1, help="check each so many rules only")
    options = parser.parse_args(arguments)
    failed: list[int] = []
    for seed in range(options.first, options.first + options.runs):
        start = time.perf_counter()
        problems = run_once(options.url, all_rules()[:: options.every], seed, options.examples)
        print(f"seed {seed}: {'; '.join(problems) or 'kept'} {time.perf_counter() - start:.1f} s")
        sys.stdout.flush()
        failed += [seed] if problems else []
    print(f"{options.runs} runs, {len(failed)} failed{f': seeds {failed}' if failed else ''}")
    return 1 if failed else 0


def run_once(url: str, rules: tuple[Rule, ...], seed: int, num_examples: int) -> list[str]:
    """Return what was wrong in one run."""
    with Target(url) as target:
        report = run_rules(target.subject, rules, seed=seed)
        problems = [tell(result) for result in report.results if not result.is_kept]
        is_exact = url.startswith("inproc:mock")
        machine = make_machine(target.subject, sums_are_exact=is_exact)
        try:
            run_machine(machine, max_examples=num_examples, seed=seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other seeds are tried too
            problems.append(f"{type(error).__name__}: {error}")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
