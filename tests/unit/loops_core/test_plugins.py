"""What the set of plugins promises: typed answers, one name for one thing, and blame by name."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest

from loops_core import hooks
from loops_core.errors import NotFoundError, PluginError
from loops_core.hooks import Command, hookimpl
from loops_core.plugins import Plugins
from loops_core.protocols import BackendConfig, LossFunction, RunSpec, TrainerSpec
from loops_core.types.checkpoint import CheckpointTarget
from loops_core.types.operation import OperationKind

RUN = hooks.RunEvent(run_id="r", client_id="c", base_model="m", lora_rank=4)
OPERATION = hooks.OperationEvent(run=RUN, kind=OperationKind.FORWARD, operation_id="o")
METRICS = hooks.MetricsEvent(run=RUN, kind=OperationKind.FORWARD, operation_id="o", metrics={})
CHECKPOINT = hooks.CheckpointEvent(run=RUN, name="n", path="p", target=CheckpointTarget.TRAINER)
SPEC = RunSpec(run_id="r", backend="b", trainer=TrainerSpec(base_model="m", model_dir=Path()))


class Answer:
    """Something with the methods that hooks' answers are known by."""

    def send(self) -> None: ...

    def open_trainer(self) -> None: ...

    def stage(self) -> None: ...


def alone(*plugins: object) -> Plugins:
    """Return a set of these plugins without the installed ones."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    for plugin in plugins:
        manager.register(plugin)
    return Plugins(manager)


def plugin_with(**implementations: Callable[..., object]) -> object:
    """Return a plugin that implements these hooks."""
    plugin = types.SimpleNamespace()
    for name, implementation in implementations.items():
        setattr(plugin, name, hookimpl(implementation))
    return plugin


def loss(name: str) -> LossFunction:
    return LossFunction(name=name, compute=lambda lp, _inputs, _settings: -lp, source="here")


@pytest.fixture
def make_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Install a distribution with an entry point and a module of the same name; return how."""
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]

    def make(name: str, code: str, *, entry: str | None = None) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[loops]\n{entry or name} = {name}\n")
        (tmp_path / f"{name}.py").write_text(code)

    yield make
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


def test_installed_plugins_are_found_by_their_entry_points(
    make_distribution: Callable[[str, str], None],
) -> None:
    code = "from loops_core.hooks import hookimpl\n"
    code += "@hookimpl\ndef loops_model_names(): return ['from-outside']\n"
    make_distribution("loops_found", code)
    plugins = Plugins.load()
    assert "loops_found" in plugins.names()
    assert "from-outside" in plugins.model_names()


def test_plugins_including_more_are_the_same_ones_and_those(
    make_distribution: Callable[[str, str], None],
) -> None:
    class Extra:
        @hookimpl
        def loops_model_names(self) -> list[str]:
            return ["of-the-extra"]

    before = Plugins.load()
    make_distribution("loops_late", "")
    more = before.including([Extra()])
    assert set(before.names()) < set(more.names())
    assert "loops_late" not in more.names()
    assert set(more.model_names()) == {*before.model_names(), "of-the-extra"}
    assert "of-the-extra" not in before.model_names()


@pytest.mark.parametrize(
    "code",
    [
        "import nowhere_to_be_found",
        "from loops_core.hooks import nothing_of_this_name",
        "raise RuntimeError('no licence')",
        "1 / 0",
        "def broken(:",
        "raise ValueError('x')",
        "from loops_core.errors import UsageError\nraise UsageError('x')",
    ],
)
def test_a_plugin_that_fails_to_import_is_named(
    make_distribution: Callable[[str, str], None], code: str
) -> None:
    make_distribution("loops_broken", code)
    with pytest.raises(PluginError, match=r"'loops_broken'.*does not load") as caught:
        Plugins.load()
    assert caught.value.__cause__ is not None


def test_two_distributions_with_a_plugin_of_one_name_are_refused(
    make_distribution: Callable[..., None],
) -> None:
    make_distribution("loops_one", "", entry="same")
    make_distribution("loops_two", "", entry="same")
    with pytest.raises(PluginError, match="two plugins are named 'same'"):
        Plugins.load()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def loops_no_such_hook(): ...", "loops_no_such_hook"),
        ("def loops_backend(title): ...", "title"),
    ],
)
def test_hooks_that_loops_does_not_have_are_refused(
    make_distribution: Callable[[str, str], None], code: str, problem: str
) -> None:
    make_distribution("loops_odd", f"from loops_core.hooks import hookimpl\n@hookimpl\n{code}\n")
    with pytest.raises(PluginError, match=problem):
        Plugins.load()


def test_extra_plugins_stand_beside_the_installed_ones() -> None:
    extra = plugin_with(loops_model_names=lambda: ["extra"])
    plugins = Plugins.load(extra=[extra])
    assert "extra" in plugins.model_names()
    assert {"inproc", "mock"} <= set(plugins.names())


def test_an_extra_plugin_given_twice_is_refused() -> None:
    extra = plugin_with()
    with pytest.raises(PluginError, match="cannot be registered"):
        Plugins.load(extra=[extra, extra])


def test_commands_of_all_plugins_are_gathered_and_two_of_one_name_refused() -> None:
    one, two = (
        Command(name="one", function=lambda: None),
        Command(name="two", function=lambda: None),
    )
    brings = plugin_with(loops_commands=lambda: [one]), plugin_with(loops_commands=lambda: [two])
    assert {"one", "two"} <= {command.name for command in alone(*brings).commands()}
    with pytest.raises(PluginError, match="two plugins bring a command 'one'"):
        alone(*brings, plugin_with(loops_commands=lambda: [one])).commands()


def test_sets_of_plugins_are_separate() -> None:
    Plugins.load(extra=[plugin_with(loops_model_names=lambda: ["extra"])])
    assert "extra" not in Plugins.load().model_names()


@pytest.mark.parametrize(("url", "extra"), [("http://h", "http"), ("HTTPS://h", "http")])
def test_a_url_that_nobody_opens_names_the_extra_to_install(url: str, extra: str) -> None:
    with pytest.raises(PluginError, match=rf"pip install 'loops-framework\[{extra}\]'") as caught:
        alone().open_transport(url)
    assert url in str(caught.value)
    assert caught.value.field == "base_url"


@pytest.mark.parametrize("url", ["gopher://h", "", "jax", "inproc"])
def test_an_unknown_url_is_told_with_the_known_forms(url: str) -> None:
    with pytest.raises(PluginError, match=r"inproc:jax.*https://") as caught:
        alone().open_transport(url)
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize("name", ["jax", "mock"])
def test_a_backend_that_nobody_brings_names_the_extra_to_install(name: str) -> None:
    with pytest.raises(PluginError, match=rf"'{name}'.*pip install 'loops-framework\[{name}\]'"):
        alone().open_backend(name, BackendConfig())


def test_an_unknown_backend_is_told() -> None:
    with pytest.raises(PluginError, match=r"'tpu9'.*expected 'jax', 'mock'"):
        alone().open_backend("tpu9", BackendConfig())


def test_a_checkpoint_store_that_nobody_brings_is_told() -> None:
    with pytest.raises(PluginError, match="'s3://b'"):
        alone().open_checkpoint_store("s3://b")


def test_a_model_that_nobody_resolves_is_not_found_and_known_ones_are_named() -> None:
    plugins = alone(plugin_with(loops_model_names=lambda: ["tiny-b", "tiny-a"]))
    with pytest.raises(NotFoundError, match=r"'typo'.*tiny-a, tiny-b") as caught:
        plugins.resolve_model("typo")
    assert caught.value.fields() == {"kind": "model", "name": "typo", "field": "base_model"}


def test_the_first_answer_wins_and_none_leaves_it_to_others() -> None:
    first, second = Answer(), Answer()

    def answer_second(name: str) -> object:
        return second if name == "second" else None

    plugins = alone(  # a plugin registered later is asked first
        plugin_with(loops_backend=lambda: first), plugin_with(loops_backend=answer_second)
    )
    assert plugins.open_backend("second", BackendConfig()) is second
    assert plugins.open_backend("other", BackendConfig()) is first


def test_a_run_lives_on_the_given_backend_unless_a_plugin_says_otherwise() -> None:
    given: Any = Answer()
    placed = Answer()
    assert alone().provision(SPEC, given) is given
    plugins = alone(plugin_with(loops_provision=lambda: placed))
    assert plugins.provision(SPEC, given) is placed


def test_losses_of_all_plugins_are_gathered() -> None:
    plugins = alone(
        plugin_with(loops_loss_functions=lambda: [loss("a"), loss("b")]),
        plugin_with(loops_loss_functions=lambda: (loss("c"),)),
        plugin_with(loops_loss_functions=lambda: ()),
    )
    assert sorted(found.name for found in plugins.loss_functions()) == ["a", "b", "c"]


def test_two_losses_of_one_name_are_refused() -> None:
    plugins = alone(
        plugin_with(loops_loss_functions=lambda: [loss("a")]),
        plugin_with(loops_loss_functions=lambda: [loss("a")]),
    )
    with pytest.raises(PluginError, match="two plugins bring a loss named 'a'"):
        plugins.loss_functions()


WRONG_ANSWERS: list[tuple[str, object, Callable[[Plugins], object]]] = [
    ("loops_transport", "x", lambda plugins: plugins.open_transport("x:")),
    ("loops_backend", 5, lambda plugins: plugins.open_backend("x", BackendConfig())),
    ("loops_resolve_model", "/tmp", lambda plugins: plugins.resolve_model("x")),
    ("loops_checkpoint_store", {}, lambda plugins: plugins.open_checkpoint_store("x")),
    ("loops_provision", True, lambda plugins: plugins.provision(SPEC, Answer())),  # type: ignore[arg-type]  # not looked at
    ("loops_loss_functions", 5, lambda plugins: plugins.loss_functions()),
    ("loops_loss_functions", [len], lambda plugins: plugins.loss_functions()),
    ("loops_model_names", "tiny", lambda plugins: plugins.model_names()),
    ("loops_model_names", [None], lambda plugins: plugins.model_names()),
    ("loops_commands", ["serve"], lambda plugins: plugins.commands()),
]


@pytest.mark.parametrize(("hook", "answer", "call"), WRONG_ANSWERS)
def test_an_answer_of_another_type_is_refused_by_the_hooks_name(
    hook: str, answer: object, call: Callable[[Plugins], object]
) -> None:
    with pytest.raises(PluginError, match=f"{hook} must return"):
        call(alone(plugin_with(**{hook: lambda: answer})))


OBSERVERS: list[tuple[str, object, Callable[[Plugins], None]]] = [
    ("loops_run_opened", RUN, lambda plugins: plugins.run_opened(RUN)),
    ("loops_operation_submitted", OPERATION, lambda p: p.operation_submitted(OPERATION)),
    ("loops_operation_finished", OPERATION, lambda p: p.operation_finished(OPERATION)),
    ("loops_metrics", METRICS, lambda plugins: plugins.metrics(METRICS)),
    ("loops_checkpoint_saved", CHECKPOINT, lambda p: p.checkpoint_saved(CHECKPOINT)),
    ("loops_run_closed", RUN, lambda plugins: plugins.run_closed(RUN)),
]


@pytest.mark.parametrize(("hook", "event", "tell"), OBSERVERS)
def test_all_observers_are_told(hook: str, event: object, tell: Callable[[Plugins], None]) -> None:
    seen: list[object] = []

    def observe(event: object) -> None:
        seen.append(event)

    def observe_without_looking() -> None:
        seen.append(None)

    tell(alone(plugin_with(**{hook: observe}), plugin_with(**{hook: observe_without_looking})))
    assert len(seen) == 2
    assert event in seen
    assert None in seen


@pytest.mark.parametrize(("hook", "event", "tell"), OBSERVERS[1:])
def test_an_observer_that_fails_is_logged_and_the_others_are_told(
    hook: str,
    event: object,
    tell: Callable[[Plugins], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[object] = []

    def fail(event: object) -> None:
        raise RuntimeError("observer")

    def observe(event: object) -> None:
        seen.append(event)

    with caplog.at_level(logging.ERROR):
        tell(alone(plugin_with(**{hook: observe}), plugin_with(**{hook: fail})))
    assert seen == [event]
    assert hook in caplog.text
    assert "RuntimeError: observer" in caplog.text


def test_observers_are_not_wrapped() -> None:
    plugin = types.SimpleNamespace()

    def around(event: object) -> Iterator[None]:
        yield

    plugin.loops_metrics = hookimpl(wrapper=True)(around)
    with pytest.raises(PluginError, match="wraps loops_metrics"):
        Plugins.load(extra=[plugin])


def test_every_hook_is_called_by_a_test_of_this_file() -> None:
    specs = {name for name in vars(hooks) if name.startswith("loops_")}
    tested = {hook for hook, _, _ in WRONG_ANSWERS} | {hook for hook, _, _ in OBSERVERS}
    assert tested == specs


def test_hooks_say_how_often_they_are_called_and_who_wins() -> None:
    for name in (name for name in vars(hooks) if name.startswith("loops_")):
        doc = getattr(hooks, name).__doc__ or ""
        first = getattr(hooks, name).loops_spec["firstresult"]
        assert "Called" in doc
        assert ("wins" in doc) if first else ("all" in doc), name
