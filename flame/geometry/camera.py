"""Pinhole cameras: OpenGL axes inside, OpenCV axes only at the interface, and the label of 25 floats."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix

Axes = Literal["opengl", "opencv"]

DEFAULT_FOV_DEGREES = 12.0


@dataclass(frozen=True)
class Camera:
    """A batch of cameras.

    Attributes:
        cam2world: `[B, 4, 4]`, x right, y up, looking along -z.
        intrinsics: `[B, 3, 3]`, normalised by the image size (`cx = cy = 0.5` at the centre).
    """

    cam2world: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        if self.cam2world.ndim != 3 or self.cam2world.shape[1:] != (4, 4):
            raise ValueError(f"cam2world must be [B, 4, 4], got {tuple(self.cam2world.shape)}")
        if self.intrinsics.shape != (len(self.cam2world), 3, 3):
            raise ValueError(
                f"intrinsics must be [{len(self.cam2world)}, 3, 3] like cam2world, got {tuple(self.intrinsics.shape)}"
            )

    @classmethod
    def from_label25(cls, label: Tensor, *, axes: Axes) -> "Camera":
        """Returns the camera of a label `[B, 25]`: cam2world row-major 16, intrinsics row-major 9."""
        if label.ndim != 2 or label.shape[1] != 25:
            raise ValueError(f"camera label must be [B, 25], got {tuple(label.shape)}")
        cam2world, intrinsics = label[:, :16].reshape(-1, 4, 4), label[:, 16:].reshape(-1, 3, 3)
        if axes == "opengl":
            return cls(cam2world, intrinsics)
        if axes == "opencv":
            return cls.from_opencv(cam2world, intrinsics)
        raise ValueError(f"axes must be 'opengl' or 'opencv', got {axes!r}")

    def to_label25(self, *, axes: Axes) -> Tensor:
        """Returns the label `[B, 25]` in the given camera axes."""
        if axes == "opengl":
            cam2world = self.cam2world
        elif axes == "opencv":
            cam2world, _ = self.to_opencv()
        else:
            raise ValueError(f"axes must be 'opengl' or 'opencv', got {axes!r}")
        return torch.cat([cam2world.flatten(1), self.intrinsics.flatten(1)], 1)

    @classmethod
    def from_opencv(cls, cam2world: Tensor, intrinsics: Tensor) -> "Camera":
        """Returns the camera of an OpenCV pose `[B, 4, 4]` (x right, y down, z forward) and normalised intrinsics."""
        return cls(_flip_camera_axes(cam2world), intrinsics)

    def to_opencv(self) -> tuple[Tensor, Tensor]:
        """Returns the pose in OpenCV axes `[B, 4, 4]` and the same normalised intrinsics `[B, 3, 3]`."""
        return _flip_camera_axes(self.cam2world), self.intrinsics

    @classmethod
    def from_head_pose(
        cls, rotation: Tensor, translation: Tensor, *, fov_degrees: float = DEFAULT_FOV_DEGREES
    ) -> "Camera":
        """Returns the camera that sees a resting head where a fixed camera saw the posed one.

        Args:
            rotation: `[B, 3]` axis-angle of the head in camera space.
            translation: `[B, 3]` metres, head origin in camera space (OpenGL axes: z < 0 in front of the camera).
            fov_degrees: field of view.
        """
        cam2world = _rigid_inverse(axis_angle_to_matrix(rotation), translation)
        return cls(cam2world, fov_to_intrinsics(fov_degrees, like=translation))

    @classmethod
    def orbit(
        cls,
        yaw_degrees: Tensor,
        pitch_degrees: Tensor,
        *,
        radius: float,
        target: Tensor,
        fov_degrees: float = DEFAULT_FOV_DEGREES,
    ) -> "Camera":
        """Returns cameras around a target whose pictures show the head turned by the public angles.

        yaw > 0 shows the nose to the viewer's right (the camera moves to -x), pitch > 0 shows the head looking up.

        Args:
            yaw_degrees: `[B]`.
            pitch_degrees: `[B]`.
            radius: distance to the target in metres.
            target: `[3]` or `[B, 3]` world point in the picture's centre.
            fov_degrees: field of view.
        """
        world2cam = euler_degrees_to_matrix(yaw_degrees, pitch_degrees, torch.zeros_like(yaw_degrees))
        offset = torch.tensor([0.0, 0.0, -radius], dtype=world2cam.dtype, device=world2cam.device)
        target = target.to(world2cam).expand(len(world2cam), 3)
        translation = offset - (world2cam @ target[..., None])[..., 0]
        return cls(_rigid_inverse(world2cam, translation), fov_to_intrinsics(fov_degrees, like=translation))

    @property
    def world2cam(self) -> Tensor:
        """`[B, 4, 4]`, the rigid inverse of `cam2world`."""
        return _rigid_inverse(self.cam2world[:, :3, :3], self.cam2world[:, :3, 3])

    def project(self, points: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Projects world points to pixels.

        Args:
            points: `[B, N, 3]` world (a batch of 1 is shared by all cameras).
            height: of the image in pixels.
            width: of the image in pixels.

        Returns:
            Pixels `[B, N, 2]` (x right, y down, origin at the image's top-left corner) and depth `[B, N]` along -z in
            world units. Pixels mean nothing where depth <= 0.
        """
        world2cam = self.world2cam
        in_camera = points @ world2cam[:, :3, :3].transpose(1, 2) + world2cam[:, None, :3, 3]
        depth = -in_camera[..., 2]
        right, down = in_camera[..., 0] / depth, -in_camera[..., 1] / depth
        k = self.intrinsics[:, None]
        x = k[..., 0, 0] * right + k[..., 0, 1] * down + k[..., 0, 2]
        y = k[..., 1, 1] * down + k[..., 1, 2]
        return torch.stack([x * width, y * height], -1), depth

    def to(self, *args: torch.device | torch.dtype | str) -> "Camera":
        """Moves the camera as `Tensor.to` does: to a device, a dtype, or both."""
        return Camera(self.cam2world.to(*args), self.intrinsics.to(*args))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def __len__(self) -> int:
        return len(self.cam2world)

    def __getitem__(self, index: int | slice | Tensor) -> "Camera":
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return Camera(self.cam2world[index], self.intrinsics[index])


def fov_to_intrinsics(fov_degrees: float, *, like: Tensor) -> Tensor:
    """Returns normalised intrinsics `[B, 3, 3]` of a square image; batch, dtype and device as `like` `[B, ...]`."""
    focal = 0.5 / math.tan(math.radians(fov_degrees) / 2)
    matrix = like.new_tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    return matrix.expand(len(like), 3, 3)


def _rigid_inverse(rotation: Tensor, translation: Tensor) -> Tensor:
    """Returns the inverse of `x -> R x + t` as `[B, 4, 4]`."""
    inverse = rotation.transpose(1, 2)
    top = torch.cat([inverse, -(inverse @ translation[..., None])], 2)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], 1)


def _flip_camera_axes(cam2world: Tensor) -> Tensor:
    """Converts OpenCV <-> OpenGL axes: right-multiplies the rotation by `diag(1, -1, -1)`."""
    return cam2world * cam2world.new_tensor([1.0, -1.0, -1.0, 1.0])
