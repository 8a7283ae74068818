"""Makes the options of a command from dataclasses: each field gives name, type and default, the text below it the help.

A command takes a dataclass as one parameter. If not all of its fields are options, or not in their order, the parameter
is annotated `Annotated[ReenactOptions, Shown(("mode", "gaze"))]`. Fields of nested dataclasses count as well.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import typer

from portrait4d.cli.field_help import field_help
from portrait4d.cli.spellings import SPELLINGS, Spelling


@dataclass(frozen=True)
class Shown:
    """The fields that are options of a command, in this order, and how some of them are written there."""

    names: tuple[str, ...]
    spellings: Mapping[str, Spelling] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaf:
    """A field that is one option; `default` is its value in the whole group, which may differ from its own default."""

    name: str
    type: Any
    default: Any
    help: str
    spelling: Spelling

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line."""
        name = re.sub(r"^(as|has|is|num)_|_(degrees|px)$", "", self.name)
        return self.spelling.flags or (f"--{name.replace('_', '-')}",)

    @property
    def parameter(self) -> inspect.Parameter:
        """The option as a parameter for typer."""
        option = typer.Option(
            *self.flags,
            help=self.help, metavar=self.spelling.metavar, show_default=self.spelling.has_shown_default,
        )  # fmt: skip
        write, kind = self.spelling.write, self.spelling.type or self.type
        default = self.default if write is None else write(self.default)
        annotation = Annotated[kind, option]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command for typer: each parameter that is a dataclass is replaced by one option per field.

    Args:
        command: its other parameters stay as they are.
    """
    groups: dict[str, tuple[type, list[Leaf]]] = {}
    shown: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        group = next(iter(get_args(hints[name])), hints[name])
        if is_dataclass(group):
            groups[name] = (group, group_leaves(hints[name]))  # pyright: ignore[reportArgumentType]
            shown += [leaf.parameter for leaf in groups[name][1]]
        else:
            shown.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        for name, (group, leaves) in groups.items():
            given = {leaf.name: leaf.spelling.read(values.pop(leaf.name)) for leaf in leaves}
            values[name] = _with_values(group(), given)
        return command(**values)

    run.__signature__ = inspect.Signature(shown)  # pyright: ignore[reportAttributeAccessIssue]  (functions take it)
    return run


def group_leaves(annotation: Any) -> list[Leaf]:
    """The options of a dataclass, which may be annotated with `Shown`."""
    group, *extras = get_args(annotation) or (annotation,)
    shown = next((extra for extra in extras if isinstance(extra, Shown)), None)
    spellings = SPELLINGS if shown is None else {**SPELLINGS, **shown.spellings}
    leaves = {leaf.name: leaf for leaf in _all_leaves(group(), spellings)}
    return list(leaves.values()) if shown is None else [leaves[name] for name in shown.names]


def _all_leaves(values: Any, spellings: Mapping[str, Spelling]) -> Iterator[Leaf]:
    hints, texts = get_type_hints(type(values)), field_help(type(values))
    for name, default in ((item.name, getattr(values, item.name)) for item in fields(values)):
        if is_dataclass(default) and name not in spellings:
            yield from _all_leaves(default, spellings)
        else:
            yield Leaf(name, hints[name], default, texts.get(name, ""), spellings.get(name, Spelling()))


def _with_values(default: Any, given: Mapping[str, Any]) -> Any:
    """A copy of a dataclass with the given values by field name, also in nested dataclasses."""
    changed: dict[str, Any] = {}
    for name, value in ((item.name, getattr(default, item.name)) for item in fields(default)):
        if name in given:
            changed[name] = given[name]
        elif is_dataclass(value):
            changed[name] = _with_values(value, given)
    return replace(default, **changed)
