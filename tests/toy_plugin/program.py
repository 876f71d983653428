"""What a user of the toy plugin writes; its test runs this in a process of its own."""

from __future__ import annotations

import json
import sys

import numpy as np
from loops_toy import plugin, transport

from loops_core import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient, TensorData
from loops_core.plugins import Plugins


def main() -> None:
    """Train and sample the toy model through the toy transport; print what came of it as JSON."""
    targets = TensorData.from_numpy(np.array([3, 3, 3, -100]))
    datum = Datum(
        model_input=ModelInput.from_ints([1, 3, 3, 3]), loss_fn_inputs={"target_tokens": targets}
    )
    losses: list[float] = []
    with ServiceClient(base_url="counted:inproc:toy?data_dir=:memory:") as service:
        client = service.create_lora_training_client("toy", rank=2, seed=0)
        for _ in range(20):
            passed = client.forward_backward([datum], "focal", {"gamma": 1.0})
            stepped = client.optim_step(AdamParams(learning_rate=0.5))
            losses.append(passed.result().loss)
            stepped.result()
        sampler = client.save_weights_and_get_sampling_client("trained").result()
        sample = sampler.sample(
            ModelInput.from_ints([1]), 1, SamplingParams(max_tokens=4, temperature=0.0)
        )
        client.close()
    found = {
        "plugins": Plugins.load().names(),
        "losses": losses,
        "tokens": sample.sequences[0].tokens,
        "calls": dict(transport.calls),
        "seen": plugin.seen,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
