"""Drives a published client in an interpreter of its own; needs nothing of this package.

    PYTHON published_worker.py

Reads lines of JSON from standard input and answers each with one. `{"do": "open", "trainer_url": …,
"model": …, "num_data": …, …}` makes the client and its batch, `{"do": "call"}` takes one
`forward_backward(…).result()`, `{"do": "encode", …}` takes the client's way of a body into JSON and
the service's way out of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

DISTRIBUTION = "baseten-loops"
MODULE = "baseten.loops"
SPLITTER = "_split_data_into_chunks"
"""What the client asks for the sizes of a batch; it is not public."""

LARGEST_BODY = 24 * 1024 * 1024


class Worker:
    """One client and what it is asked for."""

    def __init__(self) -> None:
        """Import the client."""
        logging.disable(logging.WARNING)
        os.environ.setdefault("WANDB_MODE", "disabled")
        self._client_type: Any = importlib.import_module(MODULE).TrainingClient
        self._models: Any = importlib.import_module(f"{MODULE}.models")
        self._client: Any = None
        self._data: list[Any] = []
        self._path = ""

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one line."""
        asked = question.pop("do")
        if asked == "open":
            return self._open(**question)
        if asked == "call":
            return self._call()
        if asked == "encode":
            return self._encode(**question)
        raise ValueError(f"do is {asked!r}; expected open, call or encode")

    def _open(
        self, *, trainer_url: str, model: str, num_data: int, length: int, vocabulary: int
    ) -> dict[str, Any]:
        if self._client is not None:
            self._client.close()
        self._client = self._client_type(
            trainer_url, lora_rank=16, base_model=model, api_key="key", run_id="run"
        )
        draw = random.Random(0)
        rows = [[draw.randrange(5, vocabulary) for _ in range(length + 1)] for _ in range(num_data)]
        self._data = [self._datum(row, {"target_tokens": ("int64", row[1:])}) for row in rows]
        return {"opened": True}

    def _call(self) -> dict[str, Any]:
        start, cpu = time.perf_counter(), time.process_time()
        self._client.forward_backward(self._data, "cross_entropy").result()
        return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}

    def _datum(self, tokens: list[int], tensors: dict[str, tuple[str, list[Any]]]) -> Any:
        made = {
            name: self._models.TensorData(data=values, dtype=dtype, shape=[len(values)])
            for name, (dtype, values) in tensors.items()
        }
        model_input = self._models.ModelInput.from_ints(tokens[:-1])
        return self._models.Datum(model_input=model_input, loss_fn_inputs=made)

    def _encode(self, *, path: str) -> dict[str, Any]:
        """Time both ways of the batch in a file of JSON, a list of data."""
        from pydantic import TypeAdapter

        split: Any = getattr(importlib.import_module(f"{MODULE}.training_client"), SPLITTER)
        datum_type: Any = self._models.Datum
        list_type: Any = list.__class_getitem__(datum_type)
        reader: Any = TypeAdapter(list_type)
        if path != self._path:
            self._path, self._data = path, reader.validate_json(Path(path).read_bytes())
        start = time.perf_counter()
        data = [datum.model_dump(mode="json") for datum in self._data]
        split(data, "importance_sampling", None, LARGEST_BODY)
        body = {"data": data, "loss_fn": "importance_sampling", "loss_fn_config": None, "seq_id": 1}
        compact = (",", ":")
        text = json.dumps(body, ensure_ascii=False, separators=compact, allow_nan=False).encode()
        middle = time.perf_counter()
        reader.validate_python(json.loads(text)["data"])
        end = time.perf_counter()
        return {"encode_s": middle - start, "decode_s": end - middle, "bytes": len(text)}


def main() -> None:
    """Answer line by line; the client's own output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    ready = {"distribution": DISTRIBUTION, "version": importlib.metadata.version(DISTRIBUTION)}
    answers.write(json.dumps(ready) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()
    os._exit(0)  # its threads would be waited for


if __name__ == "__main__":
    main()
