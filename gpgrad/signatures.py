"""Keyword parameters of makers, read from source files: importing a maker's module would import JAX.

Command lines and settings are checked against these. Where the source alone does not determine them (a decorator,
`**options`, a computed default), the caller imports the maker instead.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

EMPTY: Any = object()  # the default of a parameter that has none

_BUILT_IN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


class Parameter(NamedTuple):
    """A parameter's type, EMPTY where it has no annotation, and its default, EMPTY where it has none."""

    type: Any
    default: Any


class Signature(NamedTuple):
    """A maker's parameters in order, and its docstring; that of its class, if it is one."""

    parameters: dict[str, Parameter]
    doc: str


class _Unclear(Exception):
    """The source alone does not determine it."""


@functools.cache
def read(place: str) -> Signature | None:
    """The signature of gpgrad's own "module:function" or "module:Class"; None where it must be imported, or already is.

    The first parameter of a class's `__init__` is left out. The type of a parameter without a default may be EMPTY.
    """
    module = place.partition(":")[0]
    return in_source(place) if module.startswith("gpgrad.") and module not in sys.modules else None


def in_source(place: str) -> Signature | None:
    """As `read`, of any module."""
    module, _, name = place.partition(":")
    try:
        node = _definition(module, name)
        return Signature(_parameters(module, node), ast.get_docstring(node) or "")
    except _Unclear:
        return None


def _definition(module: str, name: str) -> ast.FunctionDef | ast.ClassDef:
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            break
    else:
        raise _Unclear
    if not all(isinstance(node, ast.ClassDef) and _is_dataclass(item) for item in node.decorator_list):
        raise _Unclear
    return node


def _is_dataclass(decorator: ast.expr) -> bool:
    made = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(made) in ("dataclass", "dataclasses.dataclass")


def _parameters(module: str, node: ast.FunctionDef | ast.ClassDef) -> dict[str, Parameter]:
    first = 0
    if isinstance(node, ast.ClassDef) and node.decorator_list:
        if node.bases:
            raise _Unclear
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        return {ast.unparse(item.target): _parameter(module, item.annotation, item.value) for item in fields}
    if isinstance(node, ast.ClassDef):
        found = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not found:
            raise _Unclear
        node, first = found[0], 1
    arguments = node.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs or node.decorator_list:
        raise _Unclear
    defaults: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    pairs = [*zip(arguments.args, [*defaults, *arguments.defaults], strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {argument.arg: _parameter(module, argument.annotation, default) for argument, default in pairs[first:]}


def _parameter(module: str, annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
    value = EMPTY if default is None else _value(module, default)
    try:
        kind = EMPTY if annotation is None else _type(module, annotation)
    except _Unclear:
        if value is not EMPTY:
            raise
        kind = EMPTY  # no setting: a context
    return Parameter(kind, value)


def _type(module: str, node: ast.expr) -> Any:
    """A type of settings: a scalar, a Literal, an optional, a tuple, or a name for one."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name) and node.id in _BUILT_IN:
        return _BUILT_IN[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _type(module, node.left) | _type(module, node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
        return Literal[_literal(node.slice)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "tuple":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return tuple[tuple(... if _is_ellipsis(item) else _type(module, item) for item in items)]
    return _type(*_assigned(module, node))


def _value(module: str, node: ast.expr) -> Any:
    """A default: a literal, or the name of a constant that is one."""
    return _value(*_assigned(module, node)) if isinstance(node, ast.Name | ast.Attribute) else _literal(node)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _Unclear from None


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _assigned(module: str, node: ast.expr) -> tuple[str, ast.expr]:
    """The value assigned to `NAME` or `module.NAME` as a module uses it, and the module that assigns it."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        imported = _imports(module).get(node.value.id)
        if imported is not None:
            return _assigned(imported, ast.Name(node.attr))
    if isinstance(node, ast.Name):
        for item in _tree(module).body:
            if isinstance(item, ast.Assign) and [getattr(target, "id", "") for target in item.targets] == [node.id]:
                return module, item.value
        imported, _, name = _imports(module).get(node.id, "").rpartition(".")
        if imported:
            return _assigned(imported, ast.Name(name))
    raise _Unclear


@functools.cache
def _imports(module: str) -> dict[str, str]:
    """Names that a module imports at its top from others of the same package, and their full names."""
    package = module.partition(".")[0]
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in _tree(module).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == package
        for alias in node.names
    }


@functools.cache
def _tree(module: str) -> ast.Module:
    try:
        found = importlib.util.find_spec(module)  # imports the packages around it, whose own files are light
    except (ImportError, ValueError):
        raise _Unclear from None
    source = getattr(found and found.loader, "get_source", lambda name: None)(module)
    if source is None:
        raise _Unclear
    return ast.parse(source)


def docs(place: str, siblings: bool) -> list[str]:
    """Docstrings in which the parameters of "module:maker" may be described, the nearest first.

    Its own, those of its base classes, that of a record `Settings` that its module has or imports, then with
    siblings those of the module's other makers. Read from source.
    """
    module, _, name = place.partition(":")
    try:
        found = _with_bases(module, name) + _with_bases(module, "Settings")
        nodes = [node for node in _tree(module).body if siblings and isinstance(node, ast.FunctionDef | ast.ClassDef)]
    except _Unclear:
        return []
    return found + [ast.get_docstring(node) or "" for node in nodes]


def _with_bases(module: str, name: str) -> list[str]:
    node = next(
        (n for n in _tree(module).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name), None
    )
    if node is None:
        imported, _, original = _imports(module).get(name, "").rpartition(".")
        return _with_bases(imported, original) if imported else []
    bases = [base.id for base in getattr(node, "bases", []) if isinstance(base, ast.Name)]
    return [ast.get_docstring(node) or "", *(doc for base in bases for doc in _with_bases(module, base))]


def sentences(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each name, of those that it describes.

    Descriptions are written `name: text.` or `name, name: text.` and end at the next one, or at an empty line. One that
    only points elsewhere, such as `embed: QMIX's.` or `k: see ...`, does not count.
    """
    names = set(names)
    word = r"[A-Za-z_]\w*"
    head = re.compile(rf"(?:^|(?<=[.;] ))({word}(?:, {word})*): ")
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", doc):
        pieces = head.split(" ".join(paragraph.split()))
        for described, text in zip(pieces[1::2], pieces[2::2], strict=True):
            if not re.fullmatch(r"\s*(\w+'s|see .*)[.;]?\s*", text):
                new = [each for each in described.split(", ") if each in names and each not in found]
                found |= dict.fromkeys(new, text.strip().rstrip(".;"))
    return found
