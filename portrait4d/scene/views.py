"""Posed pictures in memory: read, checked, scaled down, laid over a background, some held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.scene.choices import Background, SceneFormat
from portrait4d.scene.labels import ViewLabel, read_labels
from preprocess.media.image import NEUTRAL_GREY, read_image_alpha, to_tensor

_GREY = NEUTRAL_GREY * 2 / 255 - 1


@dataclass(frozen=True)
class PosedViews:
    """Square pictures with cameras.

    Attributes:
        names: file names, for reports.
        images: `[N, 3, H, H]` in [-1, 1].
        camera: `[N]` float32, in the scene's own unit.
    """

    names: tuple[str, ...]
    images: Tensor
    camera: Camera

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices: Sequence[int]) -> "PosedViews":
        """The views of these indices."""
        chosen = torch.tensor(indices, dtype=torch.long)
        names = tuple(self.names[index] for index in indices)
        return PosedViews(names, self.images[chosen], self.camera[chosen])


@dataclass(frozen=True)
class Scene:
    """What a folder shows.

    Attributes:
        train: views to fit.
        test: views held out.
        format: of the labels, "eg3d" or "nerf".
        is_white: whether the background is white, else black.
        notes: what was decided on the user's behalf, one line each.
    """

    train: PosedViews
    test: PosedViews
    format: str
    is_white: bool
    notes: tuple[str, ...]


def read_scene(
    folder: str | Path,
    *,
    scene_format: SceneFormat = "auto",
    background: Background = "auto",
    max_side: int = 128,
    hold_out: int = 8,
) -> Scene:
    """Reads the posed pictures of a folder.

    Args:
        folder: the pictures and their labels.
        scene_format: of the labels; "auto" takes what is there.
        background: colour of transparent pixels and of empty space; "auto" is white for transparent pictures, else
            white or black by the pictures' borders.
        max_side: larger pictures are scaled down to this side, in pixels.
        hold_out: one view of this many is held out where the folder has no test views.

    Raises:
        InputError: see `read_labels`; or pictures that are damaged, not square, of different sizes, or too few.
    """
    labels = read_labels(folder, scene_format)
    loaded = [_load(view, max_side) for view in (*labels.train, *labels.test)]
    sides = [original for _, _, original, _ in loaded]
    for view, side in zip((*labels.train, *labels.test), sides, strict=True):
        if side != sides[0]:
            first = labels.train[0].path
            raise InputError(f"{view.path}: expected {sides[0]} pixels like {first.name}, got {side}: use one size")
    notes = []
    if sides[0] > max_side:
        notes.append(f"pictures scaled down from {sides[0]} to {max_side} pixels")
    images = torch.cat([image for image, _, _, _ in loaded])
    alphas = [alpha for _, alpha, _, _ in loaded]
    is_white = _is_white(images, alphas) if background == "auto" else background == "white"
    if background == "auto":
        notes.append(f"background {'white' if is_white else 'black'} (auto)")
    images = torch.stack([_over(image, alpha, is_white) for image, alpha in zip(images, alphas, strict=True)])
    intrinsics = torch.stack([matrix for _, _, _, matrix in loaded])
    poses = torch.stack([view.cam2world for view in (*labels.train, *labels.test)])
    names = tuple(view.path.name for view in (*labels.train, *labels.test))
    views = PosedViews(names, images, Camera(poses.float(), intrinsics.float()))
    test = range(len(labels.train), len(views))
    if not test:
        test = _held_out(len(views), hold_out, folder)
        notes.append(f"no test views in {folder}: one of every {hold_out} is held out, {len(test)} of {len(views)}")
    train = [index for index in range(len(labels.train)) if index not in test]
    return Scene(views.select(train), views.select(list(test)), labels.format, is_white, tuple(notes))


def _held_out(count: int, hold_out: int, folder: str | Path) -> range:
    if count < 2:
        raise InputError(f"{folder}: expected at least 2 views, one of them to hold out, got {count}")
    if hold_out < 2:
        raise InputError(f"expected to hold out one of every 2 views or fewer, got one of every {hold_out}")
    return range(min(hold_out, count) // 2, count, hold_out)


def _load(view: ViewLabel, max_side: int) -> tuple[Tensor, np.ndarray | None, int, Tensor]:
    """Picture `[1, 3, H, H]` over grey, alpha `[H, H]` if it has any, side in the file, intrinsics `[3, 3]`."""
    image, alpha = read_image_alpha(view.path)
    height, width = image.shape[:2]
    if height != width:
        raise InputError(f"{view.path}: expected a square picture, got {width} x {height}: crop it, and its intrinsics")
    if height > max_side:
        image = cv2.resize(image, (max_side, max_side), interpolation=cv2.INTER_AREA)
        if alpha is not None:
            alpha = cv2.resize(alpha, (max_side, max_side), interpolation=cv2.INTER_AREA)
    return to_tensor(image), alpha, height, view.intrinsics(height=height, width=width)


def _over(image: Tensor, alpha: np.ndarray | None, is_white: bool) -> Tensor:
    """The picture over the background instead of the grey that `read_image_alpha` lays under it."""
    if alpha is None:
        return image
    behind = 1.0 if is_white else -1.0
    return (image + (behind - _GREY) * (1 - torch.from_numpy(alpha))).clamp(-1, 1)


def _is_white(images: Tensor, alphas: list[np.ndarray | None]) -> bool:
    if any(alpha is not None for alpha in alphas):
        return True
    border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
    return bool(border.median() > 0)
