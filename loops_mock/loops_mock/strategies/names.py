"""Strategies for names and places: checkpoints, their addresses, deployments and pins."""

from __future__ import annotations

from hypothesis import strategies as st

from loops_core.types.checkpoint import CheckpointAddress, CheckpointTarget
from loops_core.types.deployment import SamplerDeployment, TrainerDeployment
from loops_core.types.routes import SamplerPin
from loops_mock.strategies.defects import Defect

_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_WRONG_NAMES = {
    "empty": "",
    "starting with a dot": ".hidden",
    "with a slash": "a/b",
    "leading upwards": "../a",
    "with a space": "a b",
    "too long": "a" * 129,
    "not in ASCII": "é",
}


def checkpoint_names() -> st.SearchStrategy[str]:
    """Return a strategy for what a checkpoint may be called."""
    rest = st.text(alphabet=_FIRST + ".", max_size=6)
    return st.builds(str.__add__, st.sampled_from(_FIRST), rest)


def wrong_checkpoint_names() -> st.SearchStrategy[Defect[str]]:
    """Return a strategy for what a checkpoint may not be called; the field is `name`."""
    found = [Defect(f"name {what}", "name", name) for what, name in _WRONG_NAMES.items()]
    return st.sampled_from(found)


def checkpoint_addresses() -> st.SearchStrategy[CheckpointAddress]:
    """Return a strategy for addresses of checkpoints."""
    return st.builds(
        CheckpointAddress, _run_ids(), st.sampled_from(CheckpointTarget), checkpoint_names()
    )


def deployments() -> st.SearchStrategy[TrainerDeployment | SamplerDeployment]:
    """Return a strategy for where a trainer or a sampler lives."""
    urls = st.sampled_from(["http://127.0.0.1:8000", "https://loops.example/trainers/r1"])
    ids = st.none() | _run_ids()
    return st.one_of(
        st.builds(TrainerDeployment, urls, ids), st.builds(SamplerDeployment, urls, ids, ids)
    )


def sampler_pins() -> st.SearchStrategy[SamplerPin]:
    """Return a strategy for which weights may answer a sample."""
    path = checkpoint_addresses().map(str)
    return st.builds(
        SamplerPin,
        run_id=st.none() | _run_ids(),
        sampler_id=st.none() | _run_ids(),
        checkpoint_path=st.none() | path,
        min_policy_version=st.none() | st.integers(0, 2**31),
    )


def _run_ids() -> st.SearchStrategy[str]:
    return st.text(alphabet="0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=7)
