"""What the mock's hooks promise: a backend by name, models by prefix, files whole or absent."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loops_core.errors import CheckpointError, NotFoundError, UnsupportedError, UsageError
from loops_core.plugins import Plugins
from loops_core.protocols import BackendConfig, SampleRequest, SamplerSpec, TrainerSpec
from loops_mock import plugin
from loops_mock.backend import MockBackend


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOPS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def backend() -> MockBackend:
    return MockBackend(BackendConfig())


def resolve(name: str) -> Path:
    found = plugin.loops_resolve_model(base_model=name)
    assert found is not None
    return found


def test_the_entry_point_brings_backend_and_model() -> None:
    plugins = Plugins.load()
    assert plugins.open_backend("mock", BackendConfig()).name == "mock"
    assert (plugins.resolve_model("mock-tiny") / "config.json").is_file()
    assert "mock-tiny" in plugins.model_names()


@pytest.mark.parametrize("name", ["jax", "Mock", "", "mock "])
def test_other_backends_are_left_to_other_plugins(name: str) -> None:
    assert plugin.loops_backend(name=name, config=BackendConfig()) is None


@pytest.mark.parametrize("name", ["mock", "mock-tiny", "mock.2_B"])
def test_every_name_that_starts_with_mock_is_a_model(name: str, backend: MockBackend) -> None:
    trainer = backend.open_trainer(TrainerSpec(base_model=name, model_dir=resolve(name)))
    trainer.init(rank=2, seed=0)
    assert trainer.describe().vocab_size == 256


@pytest.mark.parametrize("name", ["tiny", "a-mock", "mock/../up", "mock\n", "mock" + "x" * 61, ""])
def test_other_models_are_left_to_other_plugins(name: str, cache: Path) -> None:
    assert plugin.loops_resolve_model(base_model=name) is None
    assert not cache.exists()


def test_a_directory_is_made_once(cache: Path) -> None:
    first = resolve("mock-tiny")
    written = (first / "config.json").stat()
    assert resolve("mock-tiny") == first
    assert (first / "config.json").stat() == written
    assert [path.name for path in first.iterdir()] == ["config.json"]
    assert first.is_relative_to(cache)


def test_a_damaged_directory_is_made_again() -> None:
    path = resolve("mock-tiny") / "config.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert (resolve("mock-tiny") / "config.json").read_bytes() == whole


def test_threads_that_resolve_at_once_all_find_the_whole_file() -> None:
    def read(_: int) -> object:
        return json.loads((resolve("mock-many") / "config.json").read_bytes())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(64)))
    assert all(config == found[0] for config in found)


def test_models_of_two_names_have_two_sets_of_weights(backend: MockBackend) -> None:
    logprobs = set[float]()
    for name in ("mock-a", "mock-b"):
        sampler = backend.open_sampler(SamplerSpec(base_model=name, model_dir=resolve(name)))
        sampler.submit(plugin_request())
        [outcome] = sampler.step()
        logprobs.add(outcome.sequences[0].logprobs[0])
    assert len(logprobs) == 2


def plugin_request() -> SampleRequest:
    return SampleRequest(prompt=(1,), adapter_id=None, seed=0, max_tokens=1, temperature=0.0)


def test_models_of_other_backends_are_unsupported(backend: MockBackend, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UnsupportedError, match=r"'llama'.*expected 'loops_mock'.*mock-tiny"):
        backend.open_trainer(TrainerSpec(base_model="x", model_dir=tmp_path))
    with pytest.raises(UnsupportedError):
        backend.open_sampler(SamplerSpec(base_model="x", model_dir=tmp_path))


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"model_type": "loops_mock"}'])
def test_a_damaged_model_directory_is_told(
    backend: MockBackend, tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        backend.open_trainer(TrainerSpec(base_model="x", model_dir=tmp_path))


@pytest.mark.parametrize("max_seq_len", [0, -1, 2049])
def test_a_length_that_the_model_does_not_have_is_refused(
    backend: MockBackend, max_seq_len: int
) -> None:
    spec = TrainerSpec(base_model="mock", model_dir=resolve("mock"), max_seq_len=max_seq_len)
    with pytest.raises(UsageError, match="max_seq_len"):
        backend.open_trainer(spec)


def test_a_shorter_length_is_kept(backend: MockBackend) -> None:
    spec = SamplerSpec(base_model="mock", model_dir=resolve("mock"), max_seq_len=8)
    assert backend.open_sampler(spec).describe().max_seq_len == 8


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="dtype"):
        MockBackend(BackendConfig(options={"dtype": "bfloat16"}))


def test_close_may_be_called_twice(backend: MockBackend) -> None:
    backend.close()
    backend.close()


def test_a_name_that_nobody_resolves_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r"mock/\.\./up"):
        Plugins.load().resolve_model("mock/../up")
