"""The pictures of a folder and their cameras: EG3D `dataset.json` or NeRF `transforms.json`.

No picture is opened here. Of a folder that holds both formats, EG3D's is taken: it states the intrinsics in full.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.scene.choices import SceneFormat

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes tried where a NeRF file names a picture without one."""
_DISTORTIONS = ("k1", "k2", "k3", "k4", "p1", "p2")
_INTRINSICS = ("camera_angle_x", "fl_x", "fl_y", "cx", "cy", "w", "h")
_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ViewLabel:
    """A picture and its camera.

    Attributes:
        path: the picture.
        cam2world: `[4, 4]` float64, OpenGL axes, in the scene's own unit.
        focal: horizontal and vertical, in picture widths and heights; in pixels where `is_in_pixels`.
        centre: like `focal`.
        skew: like `focal`.
        is_in_pixels: the file did not state the size of the picture, by which these are then divided.
    """

    path: Path
    cam2world: Tensor
    focal: tuple[float, float]
    centre: tuple[float, float] = (0.5, 0.5)
    skew: float = 0.0
    is_in_pixels: bool = False

    def intrinsics(self, *, height: int, width: int) -> Tensor:
        """Intrinsics `[3, 3]` float64, normalised by the picture's size."""
        across, down = (width, height) if self.is_in_pixels else (1, 1)
        first = [self.focal[0] / across, self.skew / across, self.centre[0] / across]
        second = [0.0, self.focal[1] / down, self.centre[1] / down]
        return torch.tensor([first, second, [0.0, 0.0, 1.0]], dtype=torch.float64)


@dataclass(frozen=True)
class SceneLabels:
    """Views to fit, and views that the folder itself holds out; none if it has no test labels."""

    train: list[ViewLabel]
    test: list[ViewLabel]
    format: str


def read_labels(folder: str | Path, scene_format: SceneFormat = "auto") -> SceneLabels:
    """The views of a folder.

    Raises:
        InputError: no such folder, no or unreadable labels, a picture that is missing, no intrinsics, a pose that is
            not a rotation and a translation.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a folder of posed pictures, got {folder}: check the name")
    present = {name: files for name, files in _label_files(folder).items() if files}
    if scene_format not in ("auto", "eg3d", "nerf"):
        raise InputError(f"expected the format auto, eg3d or nerf, got {scene_format!r}")
    if not present or (scene_format != "auto" and scene_format not in present):
        wanted = {"auto": "dataset.json or transforms.json", "eg3d": "dataset.json", "nerf": "transforms.json"}
        raise InputError(f"{folder}: expected {wanted[scene_format]} (or one each for train and test), found none")
    chosen = next(iter(present)) if scene_format == "auto" else scene_format
    read = {"eg3d": read_eg3d, "nerf": read_nerf}[chosen]
    files = present[chosen]
    return SceneLabels(read(files[0]), read(files[1]) if len(files) > 1 else [], chosen)


def read_eg3d(path: Path) -> list[ViewLabel]:
    """Views of a `dataset.json`: `{"labels": [[picture, 25 numbers], ...]}`, OpenCV axes, normalised intrinsics."""
    entries = _read_json(path).get("labels")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a list of labels, got {_kind(entries)}: every picture needs its camera")
    views = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise InputError(f"{path}: expected labels [picture, 25 numbers], got {str(entry)[:60]}")
        name, numbers = entry
        label = _matrix(numbers, (25,), f"{path}: {name}", "25 numbers (pose 16, intrinsics 9)")
        camera = Camera.from_label25(label[None], axes="opencv")
        k = camera.intrinsics[0]
        view = ViewLabel(
            _picture(path.parent / name, path),
            _rigid(camera.cam2world[0], f"{path}: {name}"),
            (_positive(k[0, 0], path, name), _positive(k[1, 1], path, name)),
            (float(k[0, 2]), float(k[1, 2])),
            float(k[0, 1]),
        )
        views.append(view)
    return views


def read_nerf(path: Path) -> list[ViewLabel]:
    """Views of a `transforms.json`: OpenGL axes; `camera_angle_x` in radians, or `fl_x`, `fl_y`, `cx`, `cy` in pixels.

    Values of a frame override those of the file.
    """
    values = _read_json(path)
    frames = values.get("frames")
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path}: expected a list of frames, got {_kind(frames)}: every picture needs its camera")
    views = []
    for frame in frames:
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise InputError(f"{path}: expected frames with file_path and transform_matrix, got {str(frame)[:60]}")
        name = frame["file_path"]
        pose = _matrix(frame.get("transform_matrix"), (4, 4), f"{path}: {name}", "a transform_matrix of 4 x 4 numbers")
        merged = {**values, **frame}
        bent = [key for key in _DISTORTIONS if merged.get(key)]
        if bent:
            raise InputError(f"{path}: {name}: expected pictures without lens distortion, got {', '.join(bent)}")
        picture = _picture(path.parent / name, path)
        views.append(_nerf_view(picture, _rigid(pose, f"{path}: {name}"), merged, f"{path}: {name}"))
    return views


def _nerf_view(picture: Path, pose: Tensor, values: dict[str, Any], where: str) -> ViewLabel:
    known = {key: float(values[key]) for key in _INTRINSICS if _is_number(values.get(key))}
    if "fl_x" in known:
        focal = (known["fl_x"], known.get("fl_y", known["fl_x"]))
        if min(focal) <= 0:
            raise InputError(f"{where}: expected fl_x and fl_y in pixels above 0, got {focal[0]:g} and {focal[1]:g}")
        if "w" in known and "h" in known:
            width, height = known["w"], known["h"]
            centre = (known.get("cx", width / 2) / width, known.get("cy", height / 2) / height)
            return ViewLabel(picture, pose, (focal[0] / width, focal[1] / height), centre)
        if "cx" in known and "cy" in known:
            return ViewLabel(picture, pose, focal, (known["cx"], known["cy"]), is_in_pixels=True)
        raise InputError(f"{where}: expected w and h, or cx and cy, beside fl_x: the picture's centre is not known")
    angle = known.get("camera_angle_x", 0.0)
    if not 0 < angle < math.pi:
        raise InputError(f"{where}: expected camera_angle_x (radians) or fl_x (pixels), got neither: no intrinsics")
    focal = 0.5 / math.tan(angle / 2)
    return ViewLabel(picture, pose, (focal, focal))


def _label_files(folder: Path) -> dict[str, list[Path]]:
    """Label files by format, train first."""
    found: dict[str, list[Path]] = {}
    for name, single, train, test in (
        ("eg3d", "dataset.json", "train/dataset.json", "test/dataset.json"),
        ("nerf", "transforms.json", "transforms_train.json", "transforms_test.json"),
    ):
        split = [folder / train, folder / test]
        files = split if split[0].is_file() else [folder / single]
        found[name] = [path for path in files if path.is_file()]
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected a JSON file, but it cannot be read ({reason})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, got {_kind(values)}")
    return values


def _picture(path: Path, labels: Path) -> Path:
    """The picture's file; a name without a suffix gets that of the file present."""
    candidates = [path] if path.suffix.lower() in _SUFFIXES else [path.with_name(path.name + end) for end in _SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"{labels}: names the picture {candidates[0]}, which is missing: restore it or drop its entry")


def _matrix(values: Any, shape: tuple[int, ...], where: str, what: str) -> Tensor:
    try:
        matrix = torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: expected {what}, got {_kind(values)}") from None
    if matrix.shape != shape or not bool(matrix.isfinite().all()):
        raise InputError(f"{where}: expected {what}, got {'x'.join(map(str, matrix.shape))} numbers")
    return matrix


def _rigid(pose: Tensor, where: str) -> Tensor:
    rotation = pose[:3, :3]
    error = (rotation @ rotation.T - torch.eye(3, dtype=pose.dtype)).abs().max()
    if error > _RIGID_TOLERANCE or torch.linalg.det(rotation) < 0:
        raise InputError(f"{where}: expected a pose of a rotation and a translation, got one that scales or mirrors")
    return pose


def _positive(value: Tensor, path: Path, name: str) -> float:
    if value <= 0:
        raise InputError(f"{path}: {name}: expected a positive focal length, got {float(value):g}: no intrinsics")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return "nothing" if value is None else "an empty list" if value == [] else type(value).__name__
