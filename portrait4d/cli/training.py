"""What all commands that train have in common: options, rows of statistics, forecasts."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from portrait4d.cli.console import Telling, say, say_json, warn
from portrait4d.runtime.device_options import DeviceOptions

SettingsArgument = Annotated[
    list[str] | None, typer.Argument(help="Changes to the configuration: train.batch_size=16 loss.r1_gamma=2")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="NAME|FILE",
        help="Configuration: a file in YAML, or the name of one that comes along, such as genhead/toy64 or "
        "eg3d/ffhq512-64.",
    ),
]
RunOption = Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run.")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DeviceOptions):
    """How a training is started."""

    dry_run: bool = False
    """Measure a few steps, print sizes, memory, seconds per thousand images and days, and write nothing."""

    profile: bool = False
    """Profile one step: a table by operation, and trace.json in OUTPUT."""


def run_training_command(
    kind: type,
    config: Path | None,
    output: Path | None,
    settings: list[str] | None,
    options: TrainOptions,
    tell: Telling,
) -> None:
    """Reads the configuration and does what the options ask for."""
    from portrait4d.jobs.train import forecast, profile, train
    from portrait4d.train.config_file import plain_values, read_config_file

    training = read_config_file(kind, config, settings or [])
    for warning in () if tell.is_quiet else training.warnings:
        warn(warning)
    if options.dry_run:
        found = forecast(training, device=options.device)
        if tell.as_json:
            return say_json({"forecast": asdict(found), "settings": plain_values(training)})
        return _say_forecast(asdict(found))
    if output is None:
        raise typer.BadParameter("expected a folder for the run: -o OUTPUT", param_hint="--output")
    if options.profile:
        say(profile(training, output / "trace.json", device=options.device))
        return say(f"trace {output / 'trace.json'}: open it in chrome://tracing or ui.perfetto.dev")
    is_first = os.environ.get("RANK", "0") == "0"
    report = train(training, output, device=options.device, told=None if tell.is_quiet else _tell_row)
    if not is_first:
        return None
    if tell.as_json:
        return say_json(asdict(report))
    if report.resumed_at:
        say(f"resumed at {report.resumed_at} images")
    state = "finished" if report.is_finished else "stopped and saved; run the same command again to resume"
    return say(f"{report.images_seen} images in {report.seconds / 3600:.2f} hours: {state}; see {output}")


def _tell_row(row: Mapping[str, Any]) -> None:
    """A line of progress on stderr."""
    left = row["seconds_left"]
    losses = ", ".join(
        f"{name} {value:.3g}"
        for name, value in row.items()
        if "/" in name and not name.startswith(("ms_", "gradient/"))
    )
    print(
        f"{row['images']:>10} images  {row['seconds_per_kimg']:.1f} s/kimg  {row['memory_mb']} MB  "
        f"{left // 3600}:{left // 60 % 60:02d} h left  {losses}",
        file=sys.stderr,
        flush=True,
    )
    for alarm in row.get("alarms", ()):
        print(f"warning: {alarm}", file=sys.stderr, flush=True)


def _say_forecast(found: dict[str, Any]) -> None:
    for name, count in found["parameters"].items():
        say(f"{name:<20}{count:>14,} parameters")
    say(f"{'checkpoint':<20}{found['state_mb']:>14,.0f} MB")
    say(f"{'largest memory':<20}{found['memory_mb']:>14,.0f} MB")
    for name, value in found["phases"].items():
        say(f"{name:<20}{value:>14.2f} ms an image")
    say(f"{'all':<20}{found['seconds_per_kimg']:>14.2f} s a thousand images")
    say(f"{'whole training':<20}{found['days']:>14.2f} days")
    for name, value in found["facts"].items():
        say(f"{name:<20}{value}")
