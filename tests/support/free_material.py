"""Photo, clip with sound, folder of frames and motion that are free and made by script; nothing is downloaded.

All of it is the public-domain portrait that scikit-image carries (NASA), moved in ways that are known exactly.
"""

import math
import wave
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.head_landmarks import landmark_positions
from preprocess.tracking.motion import Motion

HEIGHT, WIDTH = 320, 288
"""Of the photo and of all frames."""

NUM_FRAMES, FRAME_RATE = 12, Fraction(25)

WAVE = np.sin(2 * math.pi * np.arange(NUM_FRAMES) / NUM_FRAMES)
"""`[T]` one sway, from the photo itself and back towards it."""

ROLL_DEGREES, SHIFT_PX, ZOOM = 8 * WAVE, 10 * WAVE, 1 + 0.04 * WAVE
"""`[T]` how the photo is turned (> 0 clockwise), shifted (> 0 to the right) and made larger in the clip."""

YAW_DEGREES, JAW_OPEN = 12 * WAVE, 0.4 * (1 - np.cos(2 * math.pi * np.arange(NUM_FRAMES) / NUM_FRAMES))
"""`[T]` how the head turns (> 0 nose to the viewer's right) and opens its mouth (0 to 1) in `turned_motion`."""

HELD = ("expression", "translation", "neck", "jaw", "eyes", "landmarks", "valid", "eye_open", "fit_error", "codes")
"""What a motion holds of each frame besides time and rotation."""


@dataclass(frozen=True)
class FreeMaterial:
    """Files of one folder.

    Attributes:
        photo: PNG of a head.
        clip: MP4 of T frames with a tone, the photo moved by ROLL_DEGREES, SHIFT_PX, ZOOM.
        frames: folder of PNG, the same frames before compression.
    """

    photo: Path
    clip: Path
    frames: Path


def make_free_material(folder: Path) -> FreeMaterial:
    """Writes the files; the same ones each time."""
    material = FreeMaterial(folder / "photo.png", folder / "sway.mp4", folder / "sway")
    photo = free_photo()
    write_png(material.photo, photo)
    _write_tone(folder / "tone.wav")
    material.frames.mkdir()
    with VideoWriter(
        material.clip, height=HEIGHT, width=WIDTH, frame_rate=FRAME_RATE, audio_from=folder / "tone.wav"
    ) as writer:
        for index in range(NUM_FRAMES):
            frame = _moved(photo, ROLL_DEGREES[index], SHIFT_PX[index], ZOOM[index])
            write_png(material.frames / f"{index:02d}.png", frame)
            writer.write(frame)
    return material


def free_photo() -> np.ndarray:
    """The head of the portrait, uint8 `[HEIGHT, WIDTH, 3]`."""
    return np.ascontiguousarray(skimage.data.astronaut()[:HEIGHT, 96 : 96 + WIDTH])


def turned_motion(still: Motion, model: HeadModel) -> Motion:
    """The head of a tracked photo that turns by YAW_DEGREES and opens its mouth by JAW_OPEN, all else at rest.

    Args:
        still: one frame.
        model: its head model.
    """
    held = {name: np.repeat(getattr(still, name), NUM_FRAMES, axis=0) for name in HELD}
    held["expression"][:, model.expression_names.index("jawOpen")] = JAW_OPEN
    yaw = torch.from_numpy(np.radians(YAW_DEGREES)).float()
    rotation = torch.stack([torch.zeros_like(yaw), yaw, torch.zeros_like(yaw)], -1)
    points = landmark_positions(model, torch.from_numpy(still.shape), torch.from_numpy(held["expression"]))
    seen = points @ axis_angle_to_matrix(rotation).mT + torch.from_numpy(held["translation"])[:, None]
    focal_px = float(still.camera(0).intrinsics[0, 0, 0]) * still.crop_size
    held["landmarks"][..., 0] = still.crop_size / 2 - focal_px * seen[..., 0] / seen[..., 2]  # z < 0, y up
    held["landmarks"][..., 1] = still.crop_size / 2 + focal_px * seen[..., 1] / seen[..., 2]
    seconds = np.arange(NUM_FRAMES) / float(FRAME_RATE)
    return replace(still, seconds=seconds, frame_rate=FRAME_RATE, rotation=rotation.numpy(), **held)


def _moved(photo: np.ndarray, roll_degrees: float, shift_px: float, zoom: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), -roll_degrees, zoom)  # > 0 is counter-clockwise there
    matrix[0, 2] += shift_px
    return cv2.warpAffine(photo, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _write_tone(path: Path) -> None:
    """A tone of 440 Hz as long as the clip."""
    rate = 16000
    times = np.arange(round(NUM_FRAMES / FRAME_RATE * rate)) / rate
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes((9000 * np.sin(2 * math.pi * 440 * times)).astype("<i2").tobytes())
