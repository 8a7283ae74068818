"""The cube that holds a scene, found from the cameras: around what they look at, as wide as what they see."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera

BOX_WARP = 2.0
"""Side of the cube in fitted units, those of the planes, whatever the scene's own unit."""

_LEAST_CROSSING = 1e-3
"""Share of the largest singular value below which optical axes count as parallel."""


@dataclass(frozen=True)
class SceneBox:
    """A cube in the scene's own unit: `centre` of 3 numbers and `side`."""

    centre: tuple[float, float, float]
    side: float

    @classmethod
    def from_cameras(cls, camera: Camera, *, side: float | None = None) -> "SceneBox":
        """The cube around the point nearest to all optical axes; its side is the mean width of the pictures there."""
        centre = nearest_point(camera)
        if side is None:
            distance = (camera.cam2world[:, :3, 3].double() - centre).norm(dim=1)
            side = float((distance / camera.intrinsics[:, 0, 0].double()).mean())
        if not side > 0:
            raise InputError(
                "all cameras stand in one place: expected views of a scene from different sides (a panorama shows no "
                "depth)"
            )
        x, y, z = centre.tolist()
        return cls((x, y, z), side)

    @property
    def scale(self) -> float:
        """Fitted units in one unit of the scene."""
        return BOX_WARP / self.side

    def to_fitted(self, camera: Camera) -> Camera:
        """The camera in fitted units, with the cube's centre at the origin."""
        cam2world = camera.cam2world.clone()
        centre = cam2world.new_tensor(self.centre)
        cam2world[:, :3, 3] = (cam2world[:, :3, 3] - centre) * self.scale
        return Camera(cam2world, camera.intrinsics)


def nearest_point(camera: Camera) -> Tensor:
    """The point `[3]` float64 with the least sum of squared distances from the cameras' optical axes.

    Where the axes do not determine it (all parallel, a single camera), the point nearest to the origin.
    """
    pose = camera.cam2world.double()
    axis, origin = -pose[:, :3, 2], pose[:, :3, 3]
    across = torch.eye(3, dtype=torch.float64) - axis[:, :, None] * axis[:, None, :]
    return torch.linalg.pinv(across.sum(0), rtol=_LEAST_CROSSING) @ (across @ origin[..., None]).sum(0)[:, 0]
