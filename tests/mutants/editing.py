"""Changing one place of a function that is in use: the function stays, its code is another.

A place is named by its syntax, not by its text: comments, line breaks and quotes do not matter.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final, cast, final

_FLAGS: Final = annotations.compiler_flag
"""As in the modules that are changed: annotations are not evaluated."""

_EDITED: Final = "__edited__"
"""Where a function keeps its changed definition, so that it can be changed once more."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef

Undo = Callable[[], None]
"""Takes a change back."""


class StaleMutantError(Exception):
    """What a mutant wants to change is not there, or not once: the mutant has to be mended."""


@final
@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces one expression, or one run of statements, in a function or method.

    Attributes:
        target: `package.module:name` or `package.module:Class.name`.
        old: the code that is replaced; it must be there exactly once.
        new: what stands there afterwards.
    """

    target: str
    old: str
    new: str

    def apply(self) -> Undo:
        """Make the change in this process; return what takes it back.

        Raises:
            StaleMutantError: the target or the old code is not there, or not once.
        """
        function = find_function(self.target)
        before, edited = function.__code__, function.__dict__.get(_EDITED)
        definition = _definition(function)
        count = _replace(definition, self.old, self.new)
        if count != 1:
            raise StaleMutantError(
                f"{self.target} has {self.old!r} {count} times, expected it once:\n"
                f"{ast.unparse(definition)}"
            )
        function.__code__ = _compiled(definition, function)
        function.__dict__[_EDITED] = definition

        def undo() -> None:
            function.__code__ = before
            function.__dict__[_EDITED] = edited

        return undo


@final
@dataclass(frozen=True, slots=True)
class Value:
    """Gives a module's or a class's attribute another value.

    Attributes:
        target: `package.module:NAME` or `package.module:Class.NAME`.
        make: returns the new value, given the old one.
    """

    target: str
    make: Callable[[Any], Any]

    def apply(self) -> Undo:
        """Make the change in this process; return what takes it back.

        Raises:
            StaleMutantError: there is no such attribute, or it has that value already.
        """
        owner, name = _find_owner(self.target)
        old = owner.__dict__[name]
        new = self.make(old)
        if new is old or bool(new == old):
            raise StaleMutantError(f"{self.target} is {old!r} already")
        setattr(owner, name, new)
        return functools.partial(setattr, owner, name, old)


Change = Edit | Value


def find_function(target: str) -> FunctionType:
    """Return the function that a target names, from below its decorators.

    Raises:
        StaleMutantError: there is none.
    """
    owner, name = _find_owner(target)
    found: Any = owner.__dict__[name]
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(getattr(found, "__func__", found))
    if not isinstance(found, FunctionType):
        raise StaleMutantError(f"{target} is no function but {found!r}")
    return found


def _definition(function: FunctionType) -> Definition:
    """Return a copy of the definition as it is now."""
    edited: Definition | None = function.__dict__.get(_EDITED)
    if edited is not None:
        return copy.deepcopy(edited)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = cast("Definition", tree.body[0])
    definition.decorator_list = []
    return definition


def _find_owner(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for part in outer:
            owner = owner.__dict__[part]
    except (ImportError, KeyError) as error:
        raise StaleMutantError(f"{target} is not there: {error!r}") from error
    if name not in owner.__dict__:
        raise StaleMutantError(f"{target} is not there")
    return owner, name


def _replace(tree: ast.AST, old: str, new: str) -> int:
    """Put the new code in the place of the old; return how often it was there."""
    try:
        swap = _Expression(ast.parse(old, mode="eval").body, ast.parse(new, mode="eval").body)
    except SyntaxError:
        return _replace_statements(tree, ast.parse(old).body, ast.parse(new).body)
    swap.visit(tree)
    return swap.count


def _replace_statements(tree: ast.AST, old: list[ast.stmt], new: list[ast.stmt]) -> int:
    wanted = [ast.dump(statement) for statement in old]
    count = 0
    for node in list(ast.walk(tree)):
        for field in ("body", "orelse", "finalbody"):
            body: Any = getattr(node, field, None)
            if not isinstance(body, list):
                continue
            block = cast("list[ast.stmt]", body)
            for start in range(len(block) - len(old), -1, -1):
                if [ast.dump(each) for each in block[start : start + len(old)]] == wanted:
                    block[start : start + len(old)] = new
                    count += 1
    return count


@final
class _Expression(ast.NodeTransformer):
    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self._old = ast.dump(old)
        self._new = new
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and ast.dump(node) == self._old:
            self.count += 1
            return self._new
        return self.generic_visit(node)


def _compiled(definition: Definition, function: FunctionType) -> CodeType:
    """Return the code of a changed definition, with the free variables of the original."""
    free = function.__code__.co_freevars
    body: list[ast.stmt] = [definition]
    if free:
        outer = ast.parse(f"def outer({', '.join(free)}):\n    pass").body[0]
        cast("ast.FunctionDef", outer).body = body
        body = [outer]
    module = ast.fix_missing_locations(ast.Module(body=body, type_ignores=[]))
    code = compile(module, f"<mutant of {function.__qualname__}>", "exec", _FLAGS, True)
    for name in ("outer", definition.name) if free else (definition.name,):
        code = next(
            each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name
        )
    return code
