"""Bakes the motion of `portrait4d demo` from a table of measured numbers: `make_demo_motion.py TRACK.npz [OUT.npz]`.

The table holds 51 ARKit coefficients per frame (`blend`, `blend_names`), head angles in degrees (`ypr`), gaze in eye
widths, and eye openings, but no picture. The motion is given to the open head's mean face, whose own projected
landmarks are stored, so that nothing of the measured person's shape remains.
"""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scipy.signal import savgol_filter

from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix, matrix_to_axis_angle
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.open_head import load_open_head
from flame.landmarks.groups import CHIN, FOREHEAD, INNER_LIP_MIDDLES, OUTER_EYE_CORNERS, eye_opening
from portrait4d.jobs.demo import MOTION_FILE
from preprocess.tracking.motion import Motion

CROP_SIZE = 512
FACE_HEIGHT_OF_CROP = 0.5
EYE_WIDTH_OVER_RADIUS = 2.4
CALM = (0.85, 0.5, 0.7)
"""Share of yaw, pitch and roll that is kept: the demo shows a calm speaker."""
SMILE_SHARE = 0.5
SHUT = 0.25
"""Lids open by less than this share of their usual opening count as shut: trackers seldom see the rest of a blink."""


def steady(values: np.ndarray, *, frames: int = 5) -> np.ndarray:
    """Returns values over time `[T, ...]` without the measurement's noise."""
    return np.asarray(savgol_filter(values, frames, 2, axis=0))


def expressions(table: dict[str, np.ndarray], model: HeadModel) -> np.ndarray:
    """Returns coefficients `[T, E]` of the open head: slightly smoothed, with blinks taken from the lids."""
    result = np.zeros((len(table["blend"]), model.num_expression))
    usual = np.quantile(table["eye_open"], 0.8, axis=0)
    shut = np.clip((1 - table["eye_open"] / usual) / (1 - SHUT), 0, 1).mean(1)
    smooth = steady(table["blend"])
    for column, name in enumerate(table["blend_names"].tolist()):
        is_blink, is_look = name.startswith("eyeBlink"), name.startswith("eyeLook")
        values = shut if is_blink else 0 * shut if is_look else smooth[:, column]
        share = SMILE_SHARE if name.startswith("mouthSmile") else 1.0
        result[:, model.expression_names.index(name)] = share * values
    return np.clip(result, 0, 1)


def eye_angles(table: dict[str, np.ndarray]) -> np.ndarray:
    """Returns axis-angle vectors `[T, 2, 3]` of both eyes around their usual direction."""
    gaze = table["gaze"] - np.median(table["gaze"], axis=0)
    angles = np.arcsin(np.clip(steady(gaze) * EYE_WIDTH_OVER_RADIUS, -0.5, 0.5))
    vectors = np.stack([-angles[:, 1], angles[:, 0], np.zeros(len(angles))], 1)
    return np.repeat(vectors[:, None], 2, axis=1)


def make_motion(table: dict[str, np.ndarray], model: HeadModel) -> Motion:
    """Returns the whole clip, the head at the distance at which a crop shows it."""
    count = len(table["blend"])
    degrees = steady(table["ypr"], frames=9)
    degrees = (degrees - np.median(degrees, axis=0)) * CALM
    matrices = euler_degrees_to_matrix(*torch.tensor(degrees.T.copy(), dtype=torch.float32))
    params = HeadParams.zeros(model, count).replace(
        expression=torch.tensor(expressions(table, model), dtype=torch.float32),
        eyes=torch.tensor(eye_angles(table), dtype=torch.float32),
    )
    points = model.landmarks(model(params))
    focal_px = CROP_SIZE / (2 * np.tan(np.radians(6.0)))
    height = float((points[0, FOREHEAD] - points[0, CHIN]).norm())
    middle = points[0, [*OUTER_EYE_CORNERS, INNER_LIP_MIDDLES[0]]].mean(0)
    translation = torch.tensor([0.0, 0.0, -focal_px * height / (CROP_SIZE * FACE_HEIGHT_OF_CROP)]) - middle
    seen = points @ matrices.mT + translation
    depth = -seen[..., 2]
    x, y = CROP_SIZE / 2 + focal_px * seen[..., 0] / depth, CROP_SIZE / 2 - focal_px * seen[..., 1] / depth
    z = (depth - depth.mean(1, keepdim=True)) * focal_px / depth.mean()
    landmarks = np.round(torch.stack([x, y, z], -1).numpy() * 16) / 16  # a sixteenth of a pixel packs well
    landmarks = landmarks.astype(np.float32)
    rate = Fraction(float(table["fps"])).limit_denominator(1001)
    zeros = np.zeros((count, 3), np.float32)
    rotation = matrix_to_axis_angle(matrices)
    assert torch.allclose(axis_angle_to_matrix(rotation), matrices, atol=1e-4)
    return Motion(
        head_model=model.name, frame_rate=rate, seconds=np.arange(count) / float(rate), source="demo",
        shape=np.zeros(model.num_shape, np.float32), expression=params.expression.numpy(),
        rotation=rotation.numpy(), translation=np.tile(translation.numpy(), (count, 1)), neck=zeros, jaw=zeros,
        eyes=params.eyes.numpy(), landmarks=landmarks, valid=np.ones(count, bool), crop_matrix=np.eye(3),
        crop_size=CROP_SIZE, frame_height=CROP_SIZE, frame_width=CROP_SIZE, eye_open=eye_opening(landmarks),
        fit_error=np.zeros(count, np.float32),
    )  # fmt: skip


def main() -> None:
    """Reads the table and writes the motion file."""
    with np.load(sys.argv[1], allow_pickle=False) as archive:
        table = {name: archive[name] for name in archive.files}
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else MOTION_FILE
    motion = make_motion(table, load_open_head())
    motion.save(output)
    print(f"{output}: {len(motion)} frames, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
