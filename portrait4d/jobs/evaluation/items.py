"""The clips of an evaluation: each driven by itself, or other people's pictures driven by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flame.errors import InputError
from portrait4d.evaluation.definitions import Kind
from portrait4d.jobs.batch_items import BatchItem, cross_items, distinct_names, find_drivers, read_manifest
from portrait4d.runtime.paths import VIDEO_SUFFIXES, is_motion_file
from preprocess.media.stills import PICTURE_SUFFIXES


@dataclass(frozen=True)
class EvaluationItem:
    """A clip to be measured.

    Attributes:
        name: unlike those of all other items; results of other programs are found by it.
        clip: what drives, and of self-reenactment the truth.
        source: the picture that is animated; None for the clip's own first frame.
    """

    name: str
    clip: Path
    source: Path | None = None

    @property
    def kind(self) -> Kind:
        """Whether the clip is the truth."""
        return "self" if self.source is None else "cross"


def self_items(clips: str | Path) -> list[EvaluationItem]:
    """Every clip driven by itself; it is named as its file without the suffix.

    Args:
        clips: a video, a folder of them, or a pattern.

    Raises:
        InputError: there are none.
    """
    paths = [path for path in find_drivers(clips) if not is_motion_file(path)]
    if not paths:
        raise InputError(f"expected videos at {clips}, got motion files: give the clips that they were tracked in")
    names = distinct_names(paths)
    return [EvaluationItem(names[path], path) for path in paths]


def cross_reenactments(sources: str | Path, clips: str | Path) -> list[EvaluationItem]:
    """Every picture driven by every clip, named SOURCE__CLIP.

    Raises:
        InputError: there are no pictures or no clips.
    """
    return _of_batch(cross_items(sources, clips, Path()))


def pair_items(manifest: Path) -> list[EvaluationItem]:
    """The pairs of a manifest, `.csv` or `.jsonl` with `source`, `driver` and, for the name, `output`.

    Raises:
        InputError: as `portrait4d.jobs.batch_items.read_manifest`.
    """
    return _of_batch(read_manifest(manifest, Path()))


def find_result(name: str, folder: Path) -> Path:
    """The result of an item in a folder of another program's: NAME with a video's suffix, or a folder NAME of pictures.

    Raises:
        InputError: there is none, or more than one.
    """
    found = [path for suffix in sorted(VIDEO_SUFFIXES) if (path := folder / f"{name}{suffix}").is_file()]
    inside = folder / name
    if inside.is_dir() and any(path.suffix.lower() in PICTURE_SUFFIXES for path in inside.iterdir()):
        found.append(inside)
    if len(found) != 1:
        got = f"got {len(found)}" if found else "got none"
        raise InputError(f"expected one result {name}.mp4 (or a folder {name} of pictures) in {folder}, {got}")
    return found[0]


def _of_batch(items: Sequence[BatchItem]) -> list[EvaluationItem]:
    return [EvaluationItem(str(item.output.with_suffix("")), item.driver, item.source) for item in items]
