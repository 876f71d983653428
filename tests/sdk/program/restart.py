"""A server that ends and comes back in the middle of a training loop."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import sys

from baseten.loops import ServiceClient
from watching import ADAM, Setup, make_batch, take_step


def play(setup: Setup) -> dict:
    """Train, let the server be restarted with a result unread, read it, and go on."""
    service = ServiceClient(base_url=setup.url, api_key=setup.api_key)
    trainer = service.create_lora_training_client(setup.base_model, rank=4, seed=7)
    seen: dict = {"before": [take_step(trainer, make_batch()) for _ in range(2)]}
    passed = trainer.forward_backward(make_batch())
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdin.readline()
    seen["unread"] = passed.result().loss
    seen["step"] = trainer.optim_step(ADAM).result().metrics
    seen["after"] = take_step(trainer, make_batch())
    trainer.close()
    return seen
