"""Rules of what an adapter's files hold; weights are seen nowhere else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from loops_mock.contract.probes import BATCH, step
from loops_mock.contract.rule import NotOffered, expect, rule
from loops_mock.contract.subject import Subject


@rule(
    "adapters.every-module-is-trained",
    title="After a step every module of the adapter has moved: no lora_B is all zeros",
    section="6.1",
    needs={"train", "sample"},
)
def every_module_is_trained(subject: Subject) -> None:
    """Step once, publish, and look into the files."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    trainer.save_weights_for_sampler("stepped").result()
    with tempfile.TemporaryDirectory(prefix="loops-rule-") as scratch:
        trainer.download_checkpoint(name="stepped", target="sampler", dest_dir=scratch)
        moved = _has_moved(Path(scratch))
    still = sorted(name for name, has in moved.items() if not has)
    expect(not still, "no module stays as it was", modules=still)


def _has_moved(folder: Path) -> Mapping[str, bool]:
    """Return for every lora_B whether it holds anything but zeros.

    Raises:
        NotOffered: there is no file that is read here.
    """
    for path in folder.rglob("adapter_model.*"):
        arrays = _READERS[path.suffix](path) if path.suffix in _READERS else {}
        found = {name: has for name, has in arrays.items() if "lora_B" in name}
        if found:
            return found
    raise NotOffered("adapters in a format that can be read")


def _read_safetensors(path: Path) -> dict[str, bool]:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, dict[str, list[int]]] = json.loads(content[8:start])
    spans = {name: told["data_offsets"] for name, told in header.items() if "data_offsets" in told}
    return {name: any(content[start + low : start + high]) for name, (low, high) in spans.items()}


def _read_npz(path: Path) -> dict[str, bool]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: bool(np.any(arrays[name])) for name in arrays.files}


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz}
