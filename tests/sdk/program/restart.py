"""A server that ends and comes back in the middle of a training loop."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

from baseten.loops import Datum, ServiceClient
from watching import ADAM, Setup, make_batch, make_datum, take_step

NUM_SLOW = 4
"""So many long passes are under way that the server is told to end before the last one has run."""


def make_long_batch() -> list[Datum]:
    """Return a batch that keeps a trainer busy for about a second."""
    rng = random.Random(0)
    return [make_datum([rng.randrange(3, 32) for _ in range(500)]) for _ in range(30)]


def play(setup: Setup) -> dict:
    """Train, let the server be restarted with a result unread, read it, and go on."""
    service = ServiceClient(base_url=setup.url, api_key=setup.api_key)
    trainer = service.create_lora_training_client(setup.base_model, rank=4, seed=7)
    seen: dict = {"before": [take_step(trainer, make_batch()) for _ in range(2)]}
    passed = trainer.forward_backward(make_batch())
    slow = [trainer.forward(make_long_batch()) for _ in range(NUM_SLOW)]
    reading = ThreadPoolExecutor(1).submit(slow[-1].result)
    trainer.health()  # answered behind the poll, which is held by now
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdin.readline()
    seen["held"] = len(reading.result().loss_fn_outputs)
    seen["slow"] = [len(future.result().loss_fn_outputs) for future in slow]
    seen["unread"] = passed.result().loss
    seen["step"] = trainer.optim_step(ADAM).result().metrics
    seen["after"] = take_step(trainer, make_batch())
    trainer.close()
    return seen
