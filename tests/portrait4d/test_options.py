"""Options are written once: names, defaults and help of commands come from dataclasses, whose keys stay as they are."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib import import_module
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from places import ROOT
from portrait4d.cli.app import COMMANDS, GROUPS, build_app
from portrait4d.cli.avatar_commands import AVATAR, RENDER, TRACK
from portrait4d.cli.field_help import field_help
from portrait4d.cli.main import run
from portrait4d.cli.option_groups import Leaf, Shown, group_leaves, with_groups
from portrait4d.cli.reenact_commands import REENACT
from portrait4d.cli.spellings import parse_seeds, write_seeds
from portrait4d.engines.retarget_options import RetargetOptions
from portrait4d.jobs.eg3d.options import ORIGINAL_MARGIN, SampleOptions, SeedShapeOptions, StyleVideoOptions
from portrait4d.jobs.evaluation.options import EvaluateOptions
from portrait4d.jobs.scene_options import SceneOptions
from portrait4d.options import AvatarOptions, ReenactOptions, RenderOptions, TrackOptions, option_facts
from portrait4d.runtime.records import digest
from preprocess.dataset.building.build_options import BuildOptions, ClipBuildOptions
from preprocess.dataset.building.stage_options import StageOptions
from preprocess.dataset.formats.options import ConvertOptions

INPUTS = {
    "config",
    "output",
    "manifest",
    "name",
    "keep_download",
    "discriminator",
    "sources",
    "results",
    "source",
    "camera",
    "record",
}
"""Options that say what a command works on; they have no place among the options of the library."""


def _commands() -> dict[str, Callable[..., Any]]:
    found = dict(COMMANDS)
    for group, (file, _) in GROUPS.items():
        commands = import_module(f"portrait4d.cli.{file}").COMMANDS
        found |= {f"{group} {name}": command for name, command in commands.items()}
    return found


def _leaves(command: Callable[..., Any]) -> list[Leaf]:
    hints = get_type_hints(command, include_extras=True).values()
    groups = [hint for hint in hints if is_dataclass(next(iter(get_args(hint)), hint))]
    return [leaf for group in groups for leaf in group_leaves(group)]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def read(name: str) -> str:
        assert run([*name.split(), "--help"]) == 0
        return " ".join(capsys.readouterr().out.split())

    return read


@pytest.mark.parametrize("name", _commands())
def test_every_option_is_a_field_with_its_help_and_default(name: str, help_of: Callable[[str], str]) -> None:
    command, text = _commands()[name], help_of(name)
    for option, hint in get_type_hints(command, include_extras=True).items():
        if option != "return" and not is_dataclass(next(iter(get_args(hint)), hint)):
            is_argument = "Argument" in type(get_args(hint)[1]).__name__
            assert is_argument or option in INPUTS, f"{name}: write {option} as a field of a dataclass"
    assert _leaves(command)
    for leaf in _leaves(command):
        assert leaf.help and leaf.help in text, f"{name}: {leaf.name} has no help"
        assert all(f" {flag}" in text for flags in leaf.flags for flag in flags.split("/"))
        default = leaf.parameter.default
        assert leaf.spelling.read(default) == leaf.default, f"{name}: {leaf.name} reads another default than it shows"
        if default not in (None, "") and not isinstance(default, bool) and leaf.spelling.has_shown_default:
            assert f"{leaf.help} [default: {default}]" in text


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("demo", {"options": ReenactOptions()}),
        ("reenact", {"options": ReenactOptions()}),
        ("batch", {"options": ReenactOptions()}),
        ("evaluate", {"options": EvaluateOptions()}),
        ("track", {"options": TrackOptions()}),
        ("avatar", {"options": AvatarOptions()}),
        ("render", {"options": RenderOptions()}),
        ("fit-scene", {"options": SceneOptions()}),
        ("eg3d sample", {"options": SampleOptions()}),
        ("eg3d video", {"options": StyleVideoOptions()}),
        ("eg3d shape", {"options": SeedShapeOptions()}),
        ("data ffhq", {"run": BuildOptions(), "shards": BuildOptions()}),
        ("data video", {"run": BuildOptions(), "shards": ClipBuildOptions()}),
        ("data convert", {"formats": ConvertOptions()}),
    ],
)
def test_a_command_without_options_means_the_defaults_of_the_library(command: str, defaults: dict[str, Any]) -> None:
    original, heard = _commands()[command], {}

    def listen(**values: Any) -> None:
        heard.update(values)

    listen.__annotations__ = original.__annotations__
    listen.__signature__ = inspect.signature(original)  # pyright: ignore[reportFunctionMemberAccess]
    with_groups(listen)(**{leaf.name: leaf.parameter.default for leaf in _leaves(original)})
    assert {name: heard[name] for name in defaults} == defaults


def test_commands_leave_out_no_option() -> None:
    groups = {ReenactOptions: REENACT, TrackOptions: TRACK, AvatarOptions: AVATAR, RenderOptions: RENDER}
    for options, shown in groups.items():
        assert sorted(shown.names) == sorted(field.name for field in fields(options))
    dataset = {leaf.name for leaf in _leaves(_commands()["data video"])}
    assert {leaf.name for leaf in group_leaves(StageOptions)} - dataset == {"kind"}  # the command
    assert {leaf.name for leaf in group_leaves(BuildOptions)} <= dataset
    scene = {leaf.name for leaf in _leaves(_commands()["fit-scene"])}
    assert {leaf.name for leaf in group_leaves(SceneOptions)} - scene == {"checkpoint_seconds"}


def test_retargeting_takes_the_options_of_a_reenactment_as_they_are() -> None:
    assert issubclass(ReenactOptions, RetargetOptions)
    inherited = {field.name: getattr(ReenactOptions(), field.name) for field in fields(RetargetOptions)}
    assert inherited == asdict(RetargetOptions())
    assert "yaw_limit" not in vars(ReenactOptions)["__annotations__"]


def test_keys_of_finished_work_are_those_of_earlier_versions() -> None:
    """Taken from commit 8c783d8: another name, value or set of fields would do all batches and samples again."""
    chosen = ReenactOptions(engine="lift", gaze="camera", yaw_limit=None, jitter=3, fps=30.0)
    assert (
        digest(option_facts(replace(chosen, device="any", flame=None)))
        == "58c275a5cbc642613eadb30cf50381229b22641828b9ccad15c419ce7a25c165"
    )
    sample = {name: value for name, value in asdict(SampleOptions()).items() if name not in ("seeds", "has_grid")}
    assert digest(sample) == "b711cf48c14308be8cbbb4b1cf76fe991871d450df2101c280504def556c2058"
    assert list(StageOptions().settings) == [
        *("kind", "crop", "head_model", "motion_codes", "detector", "mask", "num_frames", "every", "min_frames"),
        "limits",
    ]


def test_values_with_a_spelling_of_their_own_arrive() -> None:
    assert _read("reenact", yaw_limit="none").yaw_limit is None
    assert _read("reenact", yaw_limit="12.5").yaw_limit == 12.5
    assert _read("render", yaw_degrees="-20,0,20.5").yaw_degrees == (-20, 0, 20.5)
    assert _read("eg3d sample", seeds="0-2,7").seeds == (0, 1, 2, 7)
    shape = _read("eg3d shape", psi=0.5, iso="10", keeps_all_parts=True)
    assert (shape.style.psi, shape.shape.iso, shape.shape.keeps_all_parts) == (0.5, 10.0, True)
    assert shape.shape.margin == ORIGINAL_MARGIN  # of the group, not of the field
    assert _read("eg3d shape", margin=0.2).shape.margin == 0.2


def _read(command: str, **given: Any) -> Any:
    """The options that a command gets for values as typer reads them."""
    heard = []
    annotation = get_type_hints(_commands()[command], include_extras=True)["options"]

    def listen(options: Any) -> None:
        heard.append(options)

    listen.__annotations__ = {"options": annotation}
    values = {leaf.name: leaf.parameter.default for leaf in group_leaves(annotation)}
    with_groups(listen)(**{**values, **given})
    return heard[0]


@pytest.mark.parametrize("text", ["0-3", "5", "1,3,8"])
def test_seeds_are_written_as_they_are_read(text: str) -> None:
    assert write_seeds(parse_seeds(text)) == text


@dataclass
class Below:
    """For the next test."""

    first: int = 1
    """One line
    that goes on.

    For readers of the source only.
    """

    second: int = 2
    """Of the base."""


@dataclass
class Above(Below):
    """For the next test."""

    second: int = Below.second
    """Of the class itself."""

    third: int = 3


def test_help_is_the_first_paragraph_below_a_field() -> None:
    assert field_help(Below) == {"first": "One line that goes on.", "second": "Of the base."}
    assert field_help(Above) == {"first": "One line that goes on.", "second": "Of the class itself."}


def test_a_command_shows_the_fields_that_it_names_in_its_order() -> None:
    leaves = group_leaves(Annotated[Above, Shown(("third", "first"))])
    assert [(leaf.name, leaf.default) for leaf in leaves] == [("third", 3), ("first", 1)]


def test_commands_that_are_not_called_are_listed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """They get no options then, which saves time; the list of commands must not depend on it."""
    texts = []
    for words in (None, [], ["reenact"], ["data", "video"]):
        with pytest.raises(SystemExit):
            build_app(words)(args=["--help"], prog_name="portrait4d")
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1 and "fit-scene" in texts[0] and "weights" in texts[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("portrait4d ren", {"render"}),
        ("portrait4d reenact --ya", {"--yaw-limit"}),
        ("portrait4d reenact --gaze ", {"driver", "camera", "source"}),
        ("portrait4d eg3d video --pa", {"--path"}),
        ("portrait4d data video --min", {"--min-frames", "--min-face", "--min-sharpness", "--min-eyes"}),
    ],
)
def test_a_shell_completes_commands_options_and_choices(line: str, expected: set[str]) -> None:
    asked = {"_PORTRAIT4D_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    found = subprocess.run(
        [sys.executable, "-m", "portrait4d.cli.main"], env={**os.environ, **asked}, cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(found.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_learn_how_to_ask(shell: str) -> None:
    env = {**os.environ, "_PORTRAIT4D_COMPLETE": f"source_{shell}"}
    program = [sys.executable, "-m", "portrait4d.cli.main"]
    found = subprocess.run(program, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"_PORTRAIT4D_COMPLETE=complete_{shell}" in found.stdout
