"""The released files: where each comes from, its licence, and what is known of its content.

A size or hash that is not published is None. Without a known hash, a file is checked by the names, types and shapes of
its tensors, and its hash is recorded when it is converted.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from flame.errors import InputError
from portrait4d.weights.config import Family

EG3D_PAGE = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/research/models/eg3d"
PORTRAIT4D_REPOSITORY = "bEijuuu/Portrait4D"

Origin = Literal["hub", "page"]


@dataclass(frozen=True)
class ReleasedFile:
    """One file that its authors have released.

    Attributes:
        name: its name here.
        family: of the network inside.
        file_name: as released; its folder in the repository is looked up there.
        origin: `hub`, a Hugging Face repository that a program may fetch from; `page`, a page where a person must
            accept the licence and download.
        location: the repository or the page.
        about: description in one line.
        num_bytes: approximate size, None where unknown.
        sha256: hash of the file, None where unknown.
        structure: the released structure that it must have, or None where only the family is known.
    """

    name: str
    family: Family
    file_name: str
    origin: Origin
    location: str
    about: str
    num_bytes: int | None = None
    sha256: str | None = None
    structure: str | None = None


def released_files() -> tuple[ReleasedFile, ...]:
    """All released files, ordered by family."""
    return (
        _eg3d("ffhq512-128", "faces, 512 pixels, rendered at 128", is_512=True),
        _eg3d("ffhqrebalanced512-64", "faces, poses rebalanced, 512 pixels, rendered at 64", is_512=True),
        _eg3d("ffhqrebalanced512-128", "faces, poses rebalanced, 512 pixels, rendered at 128", is_512=True),
        _eg3d("afhqcats512-128", "cats, 512 pixels, rendered at 128", is_512=True),
        _eg3d("shapenetcars128-64", "cars, 128 pixels, rendered at 64", is_512=False),
        _hub("genhead", "genhead", "genhead-ffhq512.pkl", "4D head generator", 630_000_000),
        _hub(
            "portrait4d", "portrait4d", "portrait4d-genhead512.pkl", "one-shot reconstructor, version 1", 1_990_000_000
        ),
        _hub(
            "portrait4d-static",
            "portrait4d",
            "portrait4d-static-genhead512.pkl",
            "one-shot reconstructor without motion",
            1_990_000_000,
        ),
        _hub(
            "portrait4d-v2",
            "portrait4d",
            "portrait4d-v2-vfhq512.pkl",
            "one-shot reconstructor, version 2",
            1_990_000_000,
        ),
        _hub("motion-model", "motion-encoder", "motion_model.pth", "motion encoder (PD-FGC) of Portrait4D", None),
    )


def find_released(name: str) -> ReleasedFile:
    """The entry of a name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    files = {file.name: file for file in released_files()}
    if name not in files:
        nearest = difflib.get_close_matches(name, files, n=1, cutoff=0.0)[0]
        raise InputError(
            f"no released weights are called {name!r}, the nearest is {nearest!r}: see portrait4d weights list"
        )
    return files[name]


def _eg3d(name: str, about: str, *, is_512: bool) -> ReleasedFile:
    num_bytes = 371_000_000 if is_512 else None  # two generators and a discriminator in single precision
    structure = "eg3d-512.generator" if is_512 else None
    return ReleasedFile(
        f"eg3d-{name}", "eg3d", f"{name}.pkl", "page", EG3D_PAGE, about, num_bytes=num_bytes, structure=structure
    )


def _hub(name: str, family: Family, file_name: str, about: str, num_bytes: int | None) -> ReleasedFile:
    network = "encoder" if family == "motion-encoder" else "generator"
    return ReleasedFile(
        name,
        family,
        file_name,
        "hub",
        PORTRAIT4D_REPOSITORY,
        about,
        num_bytes=num_bytes,
        structure=f"{family}.{network}",
    )
