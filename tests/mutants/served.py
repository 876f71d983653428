"""`loops serve` with a fault: `python -m tests.mutants.served MUTANT OPTIONS...`; "" has none."""

from __future__ import annotations

import contextlib
import sys

from tests.mutants.catalogue import MUTANTS

from loops_core.cli import main


def serve(mutant_id: str, options: list[str]) -> None:
    """Serve until the process is ended."""
    fault = MUTANTS[mutant_id].applied() if mutant_id else contextlib.nullcontext()
    with fault:
        sys.argv = ["loops", "serve", *options]
        main()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
