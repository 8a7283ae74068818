"""Weights by name or path: finding them on this machine, fetching them, and opening them.

Weights on this machine come first. huggingface_hub downloads and resumes; the file is then checked, converted to our
own format, and kept in `weights_folder()`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flame.errors import InputError
from portrait4d.weights.config import TENSORS_FILE, CheckpointConfig, Network, is_checkpoint, read_config
from portrait4d.weights.folder import embedded_weights, weights_folder
from portrait4d.weights.official.convert import Conversion, convert_file
from portrait4d.weights.official.stored_tensor import read_all
from portrait4d.weights.own_format import Progress, hash_file, read_checkpoint, write_checkpoint
from portrait4d.weights.table import ReleasedFile, find_released, released_files
from preprocess.files.file_check import check_not_input
from preprocess.files.offline import offline_variable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on this machine; `is_new` if this call put it there."""

    folder: Path
    config: CheckpointConfig
    is_new: bool
    notes: tuple[str, ...] = ()


def resolve_weights(name_or_path: str | Path) -> "tuple[CheckpointConfig, dict[str, torch.Tensor]]":
    """Config and tensors of embedded or released weights, a folder of ours, or an official file.

    An official file is converted in memory, without hashing it. A name of `embedded_weights()` or `released_files()`
    means those weights; write `./NAME` for a folder of the same name.

    Raises:
        InputError: there is nothing of that path and name, it is damaged, or the weights have not been fetched.
    """
    if isinstance(name_or_path, str) and (embedded := embedded_weights().get(name_or_path)):
        return read_checkpoint(embedded)
    if isinstance(name_or_path, str) and name_or_path in {file.name for file in released_files()}:
        folder = weights_folder() / name_or_path
        if not is_checkpoint(folder):
            raise InputError(f"weights {name_or_path} are not on this machine: {how_to_get(name_or_path)}")
        return read_checkpoint(folder)
    path = Path(name_or_path)
    if path.is_dir():
        return read_checkpoint(path)
    if path.is_file():
        conversion = convert_file(path)
        return conversion.config, read_all(conversion.tensors)
    if isinstance(name_or_path, str) and path.name == name_or_path and not path.suffix:
        find_released(name_or_path)  # no path was meant: the error names the nearest
    raise InputError(f"expected a checkpoint folder or an official file at {path}, there is none: check the path")


def how_to_get(name: str) -> str:
    """What a user does to get released weights, as the end of a sentence.

    Args:
        name: of `released_files()`.

    Raises:
        InputError: there are no such weights.
    """
    file = find_released(name)
    if file.origin != "page":
        return f"run `portrait4d weights fetch {name}`"
    return (
        f"accept the licence at {file.location}, download {file.file_name} there by hand, then run "
        f"`portrait4d weights convert {file.file_name} --name {name}`"
    )


def fetch(name: str, *, keep_download: bool = False, progress: Progress | None = None) -> Fetched:
    """Finds released weights on this machine, or downloads and converts them.

    Args:
        name: of `released_files()`.
        keep_download: keep the downloaded file; a file that the user put there is always kept.
        progress: called while hashing and writing; huggingface_hub shows its own bar.

    Raises:
        InputError: a person must accept a licence first, the machine is offline, or what came is not what was expected.
    """
    file = find_released(name)
    folder = weights_folder() / file.name
    if is_checkpoint(folder):
        return Fetched(folder, _check_kept(folder, progress), is_new=False)
    downloads = weights_folder() / "downloads" / file.name
    official = _find_download(file, downloads)
    is_downloaded = official is None
    if official is None and file.origin == "page":
        raise InputError(f"{file.name} cannot be fetched: {how_to_get(file.name)}")
    if official is None:
        from portrait4d.weights.hub import download

        official = download(file, downloads, is_offline=offline_variable() is not None)
    try:
        conversion = _open_released(official, file, progress)
    except InputError as error:
        if is_downloaded:
            official.unlink()
            raise InputError(f"the download was refused and removed: {error}") from error
        raise InputError(f"{error} (the file is {official})") from error
    fetched = _keep(conversion, file, progress)
    if is_downloaded and not keep_download:
        official.unlink()
    return fetched


def _check_kept(folder: Path, progress: Progress | None) -> CheckpointConfig:
    """The config of weights on this machine, after a check of their hash.

    Raises:
        InputError: they are damaged.
    """
    try:
        config = read_config(folder)
        found = hash_file(folder / TENSORS_FILE, progress=progress)
    except InputError as error:
        raise InputError(f"{error}, or remove the folder {folder} and fetch again") from error
    if found != config.tensors_sha256:
        raise InputError(f"the weights in {folder} are damaged: remove the folder and fetch again")
    return config


def install(path: Path, name: str, *, progress: Progress | None = None) -> Fetched:
    """Checks an official file against the table, converts it, and keeps it under the released name.

    Raises:
        InputError: its hash or its content is not that of the table.
    """
    file = find_released(name)
    return _keep(_open_released(path, file, progress), file, progress)


def _open_released(path: Path, file: ReleasedFile, progress: Progress | None) -> Conversion:
    digest = _check_file(path, file, progress)
    conversion = convert_file(path, structure=file.structure, source_sha256=digest)
    if conversion.config.family != file.family:
        raise InputError(f"{path.name} holds a network of {conversion.config.family}: {file.name} is of {file.family}")
    return conversion


def _keep(conversion: Conversion, file: ReleasedFile, progress: Progress | None) -> Fetched:
    folder = weights_folder() / file.name
    config = write_checkpoint(folder, conversion.config, conversion.tensors, progress=progress)
    return Fetched(folder, config, is_new=True, notes=conversion.notes)


def convert(
    path: str | Path, output: str | Path, *, network: Network = "generator", progress: Progress | None = None
) -> tuple[CheckpointConfig, tuple[str, ...]]:
    """Converts an official file into a checkpoint folder; returns its config and notes for the user.

    Raises:
        InputError: the file is refused, or the output cannot be written.
    """
    path, output = Path(path), Path(output)
    check_not_input(output, path)
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give the name of a folder to write")
    conversion = convert_file(path, network=network, source_sha256=hash_file(path, progress=progress))
    return write_checkpoint(output, conversion.config, conversion.tensors, progress=progress), conversion.notes


def _check_file(path: Path, file: ReleasedFile, progress: Progress | None) -> str:
    digest = hash_file(path, progress=progress)
    if file.sha256 is not None and digest != file.sha256:
        raise InputError(f"{path} has sha256 {digest[:16]}..., expected {file.sha256[:16]}...: get it again")
    return digest


def _find_download(file: ReleasedFile, folder: Path) -> Path | None:
    """The official file, if it lies in the download folder already."""
    found: Iterable[Path] = sorted(folder.rglob(file.file_name)) if folder.is_dir() else ()
    return next((path for path in found if path.is_file()), None)
