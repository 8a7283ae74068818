"""The configurations that come with the project, `configs/`, by name: `genhead/toy64`."""

from difflib import get_close_matches
from pathlib import Path

from flame.errors import InputError, printable

_PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")
"""Where an installation has them, see `setup.py`, and where a checkout does."""


def find_config(name_or_path: str | Path) -> Path:
    """The file of a configuration: one at a path, or else one of the project's own by its name.

    Raises:
        InputError: there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    own, name = own_configs(), path.as_posix()
    if name in own:
        return own[name]
    near = get_close_matches(name, own, n=3, cutoff=0.3) or list(own)
    raise InputError(
        f"expected a configuration in YAML at {printable(name)}, there is no such file and none of the project's own "
        f"has this name; nearest: {', '.join(near)}"
    )


def own_configs() -> dict[str, Path]:
    """The project's own configurations by name."""
    folder = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.yaml"))}
