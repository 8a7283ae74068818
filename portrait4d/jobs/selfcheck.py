"""A check that the weights of an engine work: a photo drives itself, and the result is measured.

The ranges are wide: they tell working weights from broken ones, not good from better. `basis` is "guess" for a range of
our own, "published" for one from a publication.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.landmarks.groups import CONTOUR, OUTER_EYE_CORNERS
from portrait4d.engines.base import Avatar, Rendering
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.jobs.demo import demo_photo
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.models import Models, load_models
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.offline import offline_variable
from preprocess.media.image import read_image, to_uint8
from preprocess.tracking.tracker import TrackedFrame

LEAST_PSNR_DB = 18.0
MOST_L1 = 0.10
MOST_LANDMARK_ERROR = 0.10
"""Mean distance of landmarks, as a share of the outer-eye distance."""
VIEW_YAW_DEGREES = 20.0
MOST_YAW_ERROR_DEGREES = 10.0
LEAST_FACE_OPACITY = 0.9
MOST_CORNER_OPACITY = 0.3

_CORNER = 0.06
"""Side of the squares in the upper corners, in sides of the picture."""


@dataclass(frozen=True)
class Finding:
    """One measurement; `passed` is None if it is not judged, `basis` says where the expected range comes from."""

    name: str
    value: str
    expected: str
    passed: bool | None
    basis: Literal["guess", "published", ""] = "guess"


@dataclass(frozen=True)
class SelfCheck:
    """The measurements of an engine; `picture` uint8 `[512, 1024, 3]` is the photo's crop with the result beside it."""

    engine: str
    findings: tuple[Finding, ...]
    picture: NDArray[np.uint8]

    @property
    def passed(self) -> bool:
        """Whether no measurement that was judged failed."""
        return all(finding.passed in (True, None) for finding in self.findings)


@one_torch_thread()
def run_selfcheck(
    name: str, photo: str | Path | None = None, *, flame: str | None = None, device: str = "cpu"
) -> SelfCheck:
    """Checks the weights of an engine, which are fetched if they are not on this machine.

    Args:
        name: name of the engine, or the path of its weights; `lift` can be checked as well.
        photo: photo of a face; None takes the public-domain portrait of the demo.
        flame: as in `ReenactOptions`.
        device: name of a torch device.

    Raises:
        InputError: the weights cannot be fetched or loaded, the photo cannot be read, or it shows no face.
    """
    image = demo_photo() if photo is None else read_image(photo)
    models = load_models(ReenactOptions(engine=name, flame=flame, device=device))
    source = models.tracker.track_image(image)
    avatar = models.engine.build([source])
    drive = retarget(source.motion, avatar, RetargetOptions(mode="absolute", yaw_limit=None), models.head_model)
    result = models.engine.render(avatar, drive.to(device))
    shown, target = to_uint8(result.image)[0], avatar.crop.apply(source.image)
    points = avatar.crop.to_crop(source.landmarks.points)
    face = face_mask(points, size=len(shown))
    findings = (
        *_reconstruction(shown, target, face),
        *_landmarks(shown, points, models),
        *_opacity(result, face),
        *_views(avatar, models, device),
        _lpips(shown, target),
        _identity(shown, target),
    )
    return SelfCheck(models.engine.name, findings, np.concatenate([target, shown], 1))


def face_mask(points: NDArray, *, size: int) -> NDArray[np.bool_]:
    """A mask bool `[size, size]`, True inside the contour of landmarks `[478, 2 or 3]`, which are in its pixels."""
    mask = np.zeros((size, size), np.uint8)
    contour = points[list(CONTOUR), :2].round().astype(np.int32)
    return cv2.fillPoly(mask, [contour], (1,)).astype(bool)


def _reconstruction(shown: NDArray, target: NDArray, face: NDArray[np.bool_]) -> list[Finding]:
    """PSNR and L1 inside the face, of colours in [0, 1]; `shown` and `target` are uint8 `[S, S, 3]`."""
    difference = (shown[face].astype(np.float64) - target[face]) / 255
    psnr = -10 * math.log10(max(float((difference**2).mean()), 1e-10))
    l1 = float(np.abs(difference).mean())
    return [
        Finding("PSNR in the face", f"{psnr:.1f} dB", f"at least {LEAST_PSNR_DB:g} dB", psnr >= LEAST_PSNR_DB),
        Finding("L1 in the face", f"{l1:.3f}", f"at most {MOST_L1:g}", l1 <= MOST_L1),
    ]


def _landmarks(shown: NDArray[np.uint8], points: NDArray, models: Models) -> list[Finding]:
    """Compares the landmarks that the tracker finds in the result with those of the photo, `points`."""
    found = _track(shown, models)
    if found is None:
        return [Finding("face in the result", "none found", "found", False)]
    apart = np.linalg.norm(found.landmarks.points[:, :2] - points[:, :2], axis=-1).mean()
    right, left = (points[index, :2] for index in OUTER_EYE_CORNERS)
    error = float(apart / np.linalg.norm(right - left))
    is_near = error <= MOST_LANDMARK_ERROR
    limit = f"at most {MOST_LANDMARK_ERROR:g} of the outer-eye distance"
    return [
        Finding("face in the result", "found", "found", True),
        Finding("landmark error", f"{error:.3f}", limit, is_near),
    ]


def _opacity(result: Rendering, face: NDArray[np.bool_]) -> list[Finding]:
    """Mean opacity inside the face and in the upper corners."""
    alpha = result.alpha[0, 0].float().cpu().numpy()
    middle = float(alpha[face].mean())
    side = max(1, round(_CORNER * len(alpha)))
    corners = float(np.concatenate([alpha[:side, :side], alpha[:side, -side:]]).mean())
    return [
        Finding(
            "opacity of the face", f"{middle:.2f}", f"at least {LEAST_FACE_OPACITY:g}", middle >= LEAST_FACE_OPACITY
        ),
        Finding(
            "opacity of the upper corners",
            f"{corners:.2f}",
            f"at most {MOST_CORNER_OPACITY:g}",
            corners <= MOST_CORNER_OPACITY,
        ),
    ]


def _views(avatar: Avatar, models: Models, device: str) -> list[Finding]:
    """Compares the yaw that the tracker finds in views of the turned head with the yaw that was asked for."""
    yaw = np.array([-VIEW_YAW_DEGREES, VIEW_YAW_DEGREES])
    drive = orbit_drive(avatar, models.head_model, yaw, np.zeros(2))
    findings = []
    pictures = to_uint8(models.engine.render(avatar, drive.to(device)).image)
    for asked, picture in zip(yaw.tolist(), pictures, strict=True):
        name, found = f"yaw of the view at {asked:+.0f}", _track(picture, models)
        limit = f"within {MOST_YAW_ERROR_DEGREES:g} degrees"
        if found is None:
            findings.append(Finding(name, "no face found", limit, False))
            continue
        turn = axis_angle_to_matrix(torch.from_numpy(found.motion.rotation))
        seen = float(matrix_to_euler_degrees(turn)[0])
        findings.append(Finding(name, f"{seen:+.1f}", limit, abs(seen - asked) <= MOST_YAW_ERROR_DEGREES))
    return findings


def _track(picture: NDArray[np.uint8], models: Models) -> TrackedFrame | None:
    """The tracked picture; None if the tracker finds no face."""
    try:
        return models.tracker.track_image(picture)
    except InputError:
        return None


def _lpips(shown: NDArray[np.uint8], target: NDArray[np.uint8]) -> Finding:
    """LPIPS of the result; reported, not judged, because one photo is not a data set."""
    expected = "0.224 on VFHQ"
    if importlib.util.find_spec("lpips") is None:
        return Finding("LPIPS", "not measured: pip install lpips", expected, None, "published")
    if (variable := offline_variable()) and not _has_backbone():
        reason = f"{variable} is set and the weights of torchvision's AlexNet are not on this machine"
        return Finding("LPIPS", f"not measured: {reason}", expected, None, "published")
    import lpips  # pyright: ignore[reportMissingImports]  (optional)

    try:
        network = lpips.LPIPS(net="alex", verbose=False)
    except (OSError, RuntimeError) as error:  # its backbone comes through torchvision's download
        reason = (str(error).splitlines() or ["no reason given"])[0]
        return Finding("LPIPS", f"not measured: its weights cannot be loaded ({reason})", expected, None, "published")
    pair = [torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in (shown, target)]
    with torch.inference_mode():
        return Finding("LPIPS", f"{float(network(*pair)):.3f} (alex)", expected, None, "published")


def _has_backbone() -> bool:
    """Whether the weights of LPIPS's backbone are on this machine."""
    return any((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth"))


def _identity(shown: NDArray[np.uint8], target: NDArray[np.uint8]) -> Finding:
    """Cosine similarity of ArcFace's identity vectors of result and photo; reported, not judged."""
    from preprocess.faces.backends.insightface_pack import IdentityEncoder

    def finding(value: str) -> Finding:
        return Finding("identity", value, "0.873 on VFHQ", None, "published")

    try:
        encoder = IdentityEncoder()
    except InputError as error:
        return finding(f"not measured: {error}")
    pair = [encoder(picture) for picture in (shown, target)]
    if pair[0] is None or pair[1] is None:
        return finding("not measured: insightface finds no face")
    return finding(f"{float(pair[0] @ pair[1]):.3f}")
