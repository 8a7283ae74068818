"""Downloads of released files through huggingface_hub; a failure is explained in one line."""

from pathlib import Path
from typing import Any

from flame.errors import InputError
from portrait4d.weights.table import ReleasedFile


def download(file: ReleasedFile, folder: Path, *, is_offline: bool) -> Path:
    """Downloads a file into `folder`; an interrupted download resumes where it stopped.

    Raises:
        InputError: offline, the extra is missing, the repository is gated or lacks the file, or the network fails.
    """
    if is_offline:
        raise InputError(
            f"{file.name} is not on this machine and PORTRAIT4D_OFFLINE or HF_HUB_OFFLINE is set: unset it, or put "
            f"{file.file_name} into {folder}"
        )
    hub = _import_hub(file)
    try:
        remote = _find_remote(hub, file)
        path = Path(hub.hf_hub_download(file.location, remote, local_dir=str(folder)))
    except InputError:
        raise
    except Exception as error:  # the libraries below raise many kinds; each becomes one line with its name
        raise InputError(_explain(error, file, folder)) from error
    if not path.is_file() or not path.stat().st_size:
        path.unlink(missing_ok=True)
        raise InputError(f"the download of {file.file_name} left no file: run the command again")
    return path


def _import_hub(file: ReleasedFile) -> Any:
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]  # an extra
    except ModuleNotFoundError as error:
        raise InputError(
            "downloading needs the package huggingface_hub: pip install 'portrait4d[hub]', or download "
            f"{file.file_name} from https://huggingface.co/{file.location} by hand and run `portrait4d weights convert "
            f"{file.file_name} --name {file.name}`"
        ) from error
    return huggingface_hub


def _find_remote(hub: Any, file: ReleasedFile) -> str:
    """The file's path in the repository: only its name is known here."""
    names = hub.list_repo_files(file.location)
    found = [name for name in names if name.rpartition("/")[2] == file.file_name]
    if len(found) != 1:
        state = "holds no" if not found else f"holds {len(found)} files"
        raise InputError(
            f"https://huggingface.co/{file.location} {state} {file.file_name}: download it by hand and run "
            f"`portrait4d weights convert FILE --name {file.name}`"
        )
    return found[0]


def _explain(error: Exception, file: ReleasedFile, folder: Path) -> str:
    page = f"https://huggingface.co/{file.location}"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    by_hand = f"or download {file.file_name} by hand into {folder}"
    if "GatedRepoError" in kinds:
        return f"{page} asks to accept its licence first: open it, log in and accept, run `hf auth login`, {by_hand}"
    if "RepositoryNotFoundError" in kinds:
        return f"{page} cannot be found or is not open to you: look at the page, {by_hand}"
    reason = (str(error).strip().splitlines() or ["no message"])[0][:160]
    return f"cannot download from {page} ({type(error).__name__}: {reason}): run the command again to go on, {by_hand}"
