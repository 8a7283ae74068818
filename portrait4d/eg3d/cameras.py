"""Cameras for a generator: the one its mapping expects, chosen views, and paths around the head."""

import math

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.geometry.look_at import focal_to_fov_degrees, look_at
from portrait4d.weights.eg3d_config import EG3DConfig

ORBIT_YAW_DEGREES = 25.0
ORBIT_PITCH_DEGREES = 10.0


def native_fov_degrees(config: EG3DConfig) -> float:
    """The true field of view of the training pictures; 13.37 degrees for FFHQ."""
    return focal_to_fov_degrees(config.camera_focal)


def condition_camera(config: EG3DConfig) -> Camera:
    """The frontal camera that conditions the styles, so that a head does not depend on the view."""
    return view_cameras(config, torch.zeros(1), torch.zeros(1))


def view_cameras(
    config: EG3DConfig, yaw_degrees: Tensor, pitch_degrees: Tensor, *, fov_degrees: float | None = None
) -> Camera:
    """Cameras at the training distance that show the head turned by the public angles.

    Args:
        config: gives the distance, the target and the field of view.
        yaw_degrees: `[B]`, > 0 turns the nose to the viewer's right.
        pitch_degrees: `[B]`, > 0 shows the head looking up.
        fov_degrees: true field of view; None takes the training pictures'.
    """
    return look_at(
        torch.deg2rad(yaw_degrees),
        -torch.deg2rad(pitch_degrees),
        radius=config.camera_radius,
        target=torch.tensor(config.camera_target),
        fov_degrees=fov_degrees or native_fov_degrees(config),
    )


def original_path(config: EG3DConfig, num_frames: int, *, fov_degrees: float | None = None) -> Camera:
    """The path of the authors' videos, once around: an ellipse of 20 degrees to the sides, seen mostly from above.

    Their loop ends a thousandth of a turn early, because pi is 3.14 there; this one closes.
    """
    phase = _phase(num_frames)
    return look_at(
        0.35 * torch.sin(phase),
        0.05 - 0.25 * torch.cos(phase),
        radius=config.camera_radius,
        target=torch.tensor(config.camera_target),
        fov_degrees=fov_degrees or native_fov_degrees(config),
        azimuth="eg3d",
        elevation="legacy",
    )


def orbit_path(config: EG3DConfig, num_frames: int, *, fov_degrees: float | None = None) -> Camera:
    """Cameras that make the nose draw one ellipse: up, to the viewer's right, down, to the left, up again."""
    phase = _phase(num_frames)
    yaw, pitch = ORBIT_YAW_DEGREES * torch.sin(phase), ORBIT_PITCH_DEGREES * torch.cos(phase)
    return view_cameras(config, yaw, pitch, fov_degrees=fov_degrees)


def _phase(num_frames: int) -> Tensor:
    return torch.arange(num_frames) * (2 * math.pi / num_frames)
