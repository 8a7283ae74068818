"""The help of a dataclass's fields: the first paragraph of the text below each, read from the source code."""

import ast
import functools
import inspect
import sys
from dataclasses import is_dataclass
from itertools import pairwise


def field_help(group: type) -> dict[str, str]:
    """The help of each field of a dataclass, by name, in one line each; inherited fields are included."""
    texts: dict[str, str] = {}
    for cls in reversed(group.__mro__):
        if is_dataclass(cls):
            texts |= _own_help(cls)
    return texts


def _own_help(cls: type) -> dict[str, str]:
    texts = {}
    for item, below in pairwise(_class_body(cls)):
        if isinstance(item, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            paragraph = inspect.cleandoc(str(below.value.value)).partition("\n\n")[0]
            texts[ast.unparse(item.target)] = " ".join(paragraph.split())
    return texts


def _class_body(cls: type) -> list[ast.stmt]:
    """The statements of a class; empty where a program was packed without its sources, whose options have no help."""
    try:
        statements = _statements(cls.__module__)
    except OSError:
        return []
    return next(item.body for item in statements if isinstance(item, ast.ClassDef) and item.name == cls.__name__)


@functools.cache
def _statements(module: str) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(sys.modules[module])).body
