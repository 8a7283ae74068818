"""`portrait4d weights`: lists, fetches, converts and inspects released files, and exports trainings as such."""

from pathlib import Path
from typing import Annotated

import typer

from flame.errors import printable
from portrait4d.cli.console import Telling, byte_progress, say, say_json, warn
from portrait4d.cli.option_groups import Shown

_STATES = {"page": "by hand", "hub": "fetch"}


def list_weights(tell: Annotated[Telling, Shown(("as_json",))]) -> None:
    """List the weights: source, size, licence, and whether they are on this machine."""
    from portrait4d.weights.folder import describe_embedded, describe_released, weights_folder

    rows, embedded = describe_released(), describe_embedded()
    if tell.as_json:
        return say_json({"folder": str(weights_folder()), "weights": rows, "embedded": embedded})
    width = max(len(row["name"]) for row in [*rows, *embedded])
    for row in embedded:
        say(f"{row['name'].ljust(width)}  {'here':<7}  {_size(row['num_bytes']):>8}  {row['about']}")
    for row in rows:
        state = "damaged" if row["problem"] else "here" if row["folder"] else _STATES[row["origin"]]
        say(f"{row['name'].ljust(width)}  {state:<7}  {_size(row['approximate_bytes']):>8}  {row['about']}")
    for row in rows:
        if row["problem"]:
            warn(row["problem"])
    say("")
    for family, licence in {row["family"]: row["licence"] for row in rows}.items():
        say(f"{family}: {licence}")
    for location in dict.fromkeys(row["location"] for row in rows):
        say(f"from {location}")
    say(f"kept in {weights_folder()}")


def fetch(
    name: Annotated[str, typer.Argument(help="Name from `portrait4d weights list`.")],
    keep_download: Annotated[bool, typer.Option("--keep-download", help="Keep the official file too.")] = False,
    *,
    tell: Telling,
) -> None:
    """Download, check and convert released weights that are not here yet. Run it again to resume."""
    from portrait4d.weights.store import fetch as run

    with byte_progress(is_quiet=tell.is_quiet) as progress:
        fetched = run(name, keep_download=keep_download, progress=progress)
    for line in fetched.notes:
        warn(line)
    if tell.as_json:
        config = fetched.config
        hashes = {"sha256": config.tensors_sha256, "source_sha256": config.source_sha256}
        return say_json({"name": name, "folder": str(fetched.folder), "is_new": fetched.is_new, **hashes})
    say(f"{fetched.folder}: {'fetched' if fetched.is_new else 'was here already'}")
    say(f"licence: {fetched.config.licence}")


def convert(
    file: Annotated[Path, typer.Argument(help="Official .pkl, motion_model.pth, or what `weights export` wrote.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Instead of -o: install it as these released weights, if it is their file."),
    ] = None,
    discriminator: Annotated[
        bool, typer.Option("--discriminator", help="Take the discriminator instead of the generator.")
    ] = False,
    *,
    tell: Telling,
) -> None:
    """Convert an official file to model.safetensors + config.json, without running any code in it."""
    from flame.errors import InputError
    from portrait4d.weights import store as weights

    if (output is None) == (name is None):
        raise InputError("expected one of -o FOLDER and --name NAME: see portrait4d weights convert --help")
    if name is not None and discriminator:
        raise InputError("expected -o FOLDER with --discriminator, got --name, which installs generators: drop --name")
    with byte_progress(is_quiet=tell.is_quiet) as progress:
        if name is not None:
            fetched = weights.install(file, name, progress=progress)
            folder, config, notes = fetched.folder, fetched.config, fetched.notes
        else:
            assert output is not None
            network = "discriminator" if discriminator else "generator"
            folder = output
            config, notes = weights.convert(file, output, network=network, progress=progress)
    for line in notes:
        warn(line)
    if tell.as_json:
        hashes = {"sha256": config.tensors_sha256, "source_sha256": config.source_sha256}
        return say_json({"folder": str(folder), "family": config.family, "network": config.network, **hashes})
    say(f"{folder}: {config.family} {config.network} from {config.source}")
    say(f"licence: {config.licence}")


def export(
    folder: Annotated[Path, typer.Argument(help="Checkpoint folder of `portrait4d train`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: .pt or .pth.")],
    *,
    tell: Telling,
) -> None:
    """Write a trained reconstructor of the released size as state dicts under official names.

    The authors' own classes load them; see docs/checkpoints.md.
    """
    from dataclasses import asdict

    from portrait4d.jobs.export_weights import export_weights

    report = export_weights(folder, output)
    for line in report.notes:
        warn(line)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"{report.output}: {', '.join(report.networks)}, {report.num_tensors} tensors, {_size(report.num_bytes)}")


def inspect(
    file: Annotated[
        Path,
        typer.Argument(help="Official .pkl, motion_model.pth, an exported .pt, or a checkpoint folder."),
    ],
    tell: Annotated[Telling, Shown(("as_json",))],
) -> None:
    """Show what is in a file: networks, tensors, rendering options, and what is suspicious. Loads no network."""
    from dataclasses import asdict

    from portrait4d.weights.official.inspection import inspect_file

    report = inspect_file(file)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"{report.path}: {report.kind}, {_size(report.num_bytes)}")
    for network in report.networks:
        say("")
        say(printable(f"{network.key}: {network.family} {network.network}, class {network.class_name or '-'}"))
        say(f"  {network.num_tensors} tensors, {network.num_parameters:,} parameters")
        facts = {
            "resolution": network.resolution,
            "rendered at": network.neural_resolution,
            "planes": network.plane_layout,
            "camera": network.camera_axes,
            "box warp": network.box_warp,
        }
        if known := [f"{key} {value}" for key, value in facts.items() if value is not None]:
            say(printable(f"  {', '.join(known)}"))
        for key, value in network.rendering.items():
            say(printable(f"    {key} = {str(value)[:200]}"))
    say("")
    say(printable(f"licence: {report.licence}"))
    for line in report.suspicious:
        warn(line)


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "unknown"
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


COMMANDS = {"list": list_weights, "fetch": fetch, "convert": convert, "export": export, "inspect": inspect}
