"""Plays one section with the published SDK and prints what was seen as one JSON object.

Run by the SDK's own interpreter: `python play.py SECTION`. The setup is a line of JSON on stdin,
the object is the last line on stdout.
"""
# The SDK lives in an environment of its own, which the type checker of this repository cannot see.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import json
import sys
from pathlib import Path

try:
    import torch  # noqa: F401
except ImportError:
    sys.path.append(str(Path(__file__).parent / "without_torch"))

import life
import local_mode
import refusals
import restart
import rollouts
import watching

SECTIONS = {
    "life": life.play,
    "refusals": refusals.play,
    "local_mode": local_mode.play,
    "rollouts": rollouts.play,
    "restart": restart.play,
}


def main() -> None:
    """Play the section named by the first argument."""
    setup = watching.Setup(**json.loads(sys.stdin.readline()))
    requests = watching.count_requests()
    seen = SECTIONS[sys.argv[1]](setup)
    seen["requests"] = dict(requests)
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
