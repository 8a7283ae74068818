"""Writes docs/api.md, the reference of all public names, from the docstrings and signatures in the sources.

python scripts/make_api_page.py
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import portrait4d

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"

PACKAGES = ("flame", "preprocess", "portrait4d", "genhead")

CONSTANTS = {
    "PORTRAIT4D_FLOOR": "The name of this package, by which its own `flame` and `preprocess` are told from strangers'.",
    "__version__": "The installed version, text.",
}

DEEPER = (
    *("flame.heads.flame.load_flame", "flame.heads.flame_smplx.flame_from_smplx"),
    *("genhead.generator.GenHeadGenerator", "genhead.synthesis.config.SynthesisConfig"),
    *("genhead.synthesis.subjects.SyntheticHeads", "preprocess.dataset.synthetic.record.SyntheticFolder"),
)
"""What programs take from where it lies: FLAME, and GenHead, whose package has no names of its own."""

HEAD = """# Reference

<!-- made by scripts/make_api_page.py: do not edit -->

Every public name, from its docstring; [python.md](python.md) shows how they are used, [conventions.md](conventions.md)
has axes, units and the letters of shapes.
"""


def page() -> str:
    """The text of the page."""
    homes = {name: portrait4d._HOMES[name] for name in sorted(portrait4d._HOMES, key=str.lower)}
    parts = [HEAD, "## portrait4d\n\n`from portrait4d import ...`\n"]
    parts += [_entry(module, name) for name, module in homes.items()]
    parts.append("### Constants\n\n" + "\n".join(f"- `{name}`: {text}" for name, text in CONSTANTS.items()) + "\n")
    parts.append("## FLAME and genhead\n\nImported from the module that is named.\n")
    for place in DEEPER:
        module, _, name = place.rpartition(".")
        parts.append(_entry(module, name, prefix=f"from {module} import {name}\n\n"))
    return "\n".join(parts)


def _entry(module: str, name: str, *, prefix: str = "") -> str:
    item = getattr(importlib.import_module(module), name)
    node, source = _definition(item)
    if isinstance(node, ast.ClassDef):
        return _class_entry(item, node, source, prefix)
    return f"### {name}\n\n```python\n{prefix}{_signature(node, source)}\n```\n\n{_text(ast.get_docstring(node))}\n"


def _definition(item: Any) -> tuple[Any, str]:
    """The node of a class or function, and the text of its file."""
    tree, source = _parsed(inspect.getsourcefile(inspect.unwrap(item)) or "")
    return [node for node in tree.body if getattr(node, "name", None) == item.__name__][-1], source


@functools.cache
def _parsed(path: str) -> tuple[ast.Module, str]:
    source = Path(path).read_text(encoding="utf-8")
    return ast.parse(source), source


def _class_entry(item: type, node: ast.ClassDef, source: str, prefix: str) -> str:
    texts = [_text(ast.get_docstring(node))]
    fields: dict[str, str] = {}
    members: dict[str, str] = {}
    first = ""
    for base in item.__mro__:
        if base.__module__.split(".")[0] not in PACKAGES:
            continue
        node, source = _definition(base)
        inherited = (ast.get_docstring(node) or "").partition("Attributes:")[2]
        if base is not item and inherited:
            texts.append(_text(f"Attributes:{inherited}"))
        for place, part in enumerate(node.body):
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                following = node.body[place + 1] if place + 1 < len(node.body) else None
                fields.setdefault(part.target.id, _field(part, following, source))
            elif isinstance(part, ast.FunctionDef) and part.name == "__init__" and not first:
                first = _signature(part, source, name=item.__name__)
                texts.append(_text(ast.get_docstring(part)))
            elif isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                members.setdefault(part.name, _member(part, source))
    shown = {name: text for name, text in fields.items() if not name.startswith("_")}
    head = f"### {item.__name__}\n\n```python\n{prefix}{first or f'class {item.__name__}'}\n```\n"
    listed = "**Fields**\n\n" + "\n".join(shown.values()) + "\n" if shown else ""
    return "\n".join(
        part for part in (head, *(f"{text}\n" for text in texts if text), listed, *members.values()) if part
    )


def _field(node: ast.AnnAssign, following: ast.stmt | None, source: str) -> str:
    assert isinstance(node.target, ast.Name)
    default = "" if node.value is None else f" = {_plain(ast.get_source_segment(source, node.value))}"
    said = ""
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        said = ": " + " ".join(str(following.value.value).split())
    return f"- `{node.target.id}: {_plain(ast.get_source_segment(source, node.annotation))}{default}`{said}"


def _member(node: ast.FunctionDef, source: str) -> str:
    kinds = {decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)}
    text = _text(ast.get_docstring(node))
    if kinds & {"property", "cached_property"}:
        kind = "" if node.returns is None else f": {_plain(ast.get_source_segment(source, node.returns))}"
        return f"`{node.name}{kind}`\n\n{_quoted(text)}\n"
    before = "@classmethod\n" if "classmethod" in kinds else "@staticmethod\n" if "staticmethod" in kinds else ""
    return f"```python\n{before}{_signature(node, source)}\n```\n\n{_quoted(text)}\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _signature(node: ast.FunctionDef, source: str, *, name: str | None = None) -> str:
    """A call in the words of the source, without `self`, on one line or, where that is long, one argument a line."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(plain) - len(spec.defaults)) + list(spec.defaults)
    words = [_argument(part, value, source) for part, value in zip(plain, defaults, strict=True)]
    if spec.posonlyargs:
        words.insert(len(spec.posonlyargs), "/")
    words = [word for word in words if word not in ("self", "cls")]
    if spec.vararg:
        words.append("*" + _argument(spec.vararg, None, source))
    elif spec.kwonlyargs:
        words.append("*")
    words += [_argument(part, value, source) for part, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    if spec.kwarg:
        words.append("**" + _argument(spec.kwarg, None, source))
    words = words[1:] if words[:1] == ["/"] else words
    returned = "" if node.returns is None or name else f" -> {_plain(ast.get_source_segment(source, node.returns))}"
    line = f"{name or node.name}({', '.join(words)}){returned}"
    if len(line) <= 110:
        return line
    return f"{name or node.name}(\n" + "".join(f"    {word},\n" for word in words) + f"){returned}"


def _argument(part: ast.arg, default: ast.expr | None, source: str) -> str:
    kind = "" if part.annotation is None else f": {_plain(ast.get_source_segment(source, part.annotation))}"
    equals = " = " if kind else "="
    return f"{part.arg}{kind}" + ("" if default is None else equals + _plain(ast.get_source_segment(source, default)))


def _plain(segment: str | None) -> str:
    text = " ".join((segment or "").split())
    return text[1:-1] if re.fullmatch(r'"[^"]*[A-Z\[|][^"]*"', text) else text  # an annotation that is quoted


def _text(docstring: str | None) -> str:
    """A docstring after Google as Markdown."""
    blocks: list[str] = []
    section: list[str] | None = None
    title = ""
    for line in [*(docstring or "").splitlines(), "End:"]:
        begins = re.fullmatch(r"(Args|Returns|Yields|Raises|Attributes|Example|End):", line)
        if begins is None:
            (blocks if section is None else section).append(line)
            continue
        if section is not None:
            blocks += ["", f"**{title}**", "", *_section(title, textwrap.dedent("\n".join(section)).splitlines())]
        title, section = begins[1], []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(blocks)).strip()


def _section(title: str, lines: list[str]) -> list[str]:
    if title == "Example":
        return ["```python", *lines, "```"]
    if title in ("Returns", "Yields"):
        return lines
    items: list[str] = []
    for line in lines:
        entry = re.match(r"(\*{0,2}\w+(?:, \w+)*): ?(.*)", line)
        if entry:
            items.append(f"- `{entry[1]}`: {entry[2]}".rstrip())
        elif line.strip() and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(f"- {line.strip()}")
    return items


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
