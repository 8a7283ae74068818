"""The attention mesh (Grishchenko et al. 2020, arXiv:2006.10962), as in MediaPipe: 468 points and 10 of the irises.

A trunk predicts the 468 points. They place three upright regions (lips, both eyes), which are cut out of an early
feature map; three branches and then five heads refine the points in them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from flame.landmarks.attention_mesh import EYE_LEFT, EYE_RIGHT, LIPS
from flame.landmarks.groups import EYE_CORNERS, LEFT_IRIS, MOUTH_CORNERS, RIGHT_IRIS
from preprocess.faces.networks.blocks import ResidualBlock, SameConv

INPUT_SIZE = 192
NUM_POINTS = 478
_NUM_MESH_POINTS = 468
_FEATURE_STRIDE = 4
_REGION_SIZE = 16  # feature pixels across a region
_REGION_SCALE = 1.5  # side of a region over the extent of its points
# Regions in the order of the branches, and the two points, from left to right in the picture, that give each its
# rotation. "Right" is the subject's.
_REGIONS = (LIPS, EYE_RIGHT, EYE_LEFT)
_ROTATION_POINTS = (MOUTH_CORNERS, EYE_CORNERS["right"], (EYE_CORNERS["left"][1], EYE_CORNERS["left"][0]))
_BRANCH_OF_HEAD = (0, 1, 1, 2, 2)  # lips, right eye, right iris, left eye, left iris
_POINTS_OF_HEAD = (LIPS, EYE_RIGHT, RIGHT_IRIS, EYE_LEFT, LEFT_IRIS)
_NUM_LID_POINTS = 16  # the first points of an eye's table run around its lids; the iris takes their mean depth


@dataclass(frozen=True)
class MeshOutput:
    """The points that the network finds in a crop, and its flag.

    Attributes:
        points: `[B, 478, 3]` in pixels of the 192x192 input, top-left corner at 0; z in the same unit.
        presence: logit `[B]` of "this is a face".
    """

    points: Tensor
    presence: Tensor


class FaceMeshNetwork(nn.Module):
    """Maps face crops `[B, 3, 192, 192]` in [0, 1] to `MeshOutput`."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 16, kernel=3, stride=2), nn.PReLU(16))
        self.early = nn.Sequential(*_blocks((16, 16, 1), (16, 16, 1), (16, 32, 2)))
        self.trunk = nn.Sequential(
            *_blocks((32, 32, 1), (32, 32, 1)),
            *_blocks((32, 64, 2), (64, 64, 1), (64, 64, 1)),
            *_blocks((64, 128, 2), (128, 128, 1), (128, 128, 1)),
            *_blocks((128, 128, 2), (128, 128, 1), (128, 128, 1)),
            *_blocks((128, 128, 2), (128, 128, 1), (128, 128, 1)),
            *_narrow(128, 32, branches=1),
        )
        self.mesh = nn.Conv2d(32, 468 * 3, 3)
        self.branches = nn.Sequential(
            *_blocks((32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), branches=3)
        )
        self.heads = nn.Sequential(
            *_blocks((128, 128, 1), (128, 128, 1), (128, 128, 2), (128, 128, 1), (128, 128, 1), branches=5),
            *_narrow(128, 32, branches=5),
        )
        self.points = nn.ModuleList([nn.Conv2d(32, 2 * len(points), 2) for points in _POINTS_OF_HEAD])
        self.presence = nn.Conv2d(32, 1, 3)
        for index, points in enumerate(_REGIONS):
            self.register_buffer(f"region{index}", torch.tensor(points), persistent=False)
        self.register_buffer("refined", torch.tensor(sum(_POINTS_OF_HEAD, ())), persistent=False)
        self.register_buffer("branch_of_head", torch.tensor(_BRANCH_OF_HEAD), persistent=False)
        self.register_buffer("grid", _region_grid(), persistent=False)

    def forward(self, images: Tensor) -> MeshOutput:
        """Returns points and presence."""
        early = self.early(self.stem(images))
        final = self.trunk(early)
        mesh = self.mesh(final).reshape(-1, _NUM_MESH_POINTS, 3)
        presence = self.presence(final).reshape(-1)
        regions = [
            region_matrix(mesh[..., :2], self.get_buffer(f"region{index}"), points)
            for index, points in enumerate(_ROTATION_POINTS)
        ]
        return MeshOutput(self._merge(mesh, self._refine(early, torch.stack(regions, dim=1))), presence)

    def _refine(self, early: Tensor, regions: Tensor) -> Tensor:
        """Returns the points `[B, 232, 2]` of all heads in input pixels."""
        crops = sample_regions(early, regions, self.get_buffer("grid"))
        branches = self.branches(crops.flatten(1, 2)).unflatten(1, (len(_REGIONS), -1))
        heads = self.heads(branches[:, self.get_buffer("branch_of_head")].flatten(1, 2))
        heads = heads.unflatten(1, (len(_BRANCH_OF_HEAD), -1))
        found = [
            _transform(regions[:, branch], layer(heads[:, index]).reshape(len(early), -1, 2))
            for index, (branch, layer) in enumerate(zip(_BRANCH_OF_HEAD, self.points, strict=True))
        ]
        return torch.cat(found, dim=1)

    def _merge(self, mesh: Tensor, refined: Tensor) -> Tensor:
        """Replaces x and y of the mesh by refined ones, and appends the irises at the depth of their lids."""
        depths = mesh[..., 2]
        right, left = (depths[:, list(eye[:_NUM_LID_POINTS])].mean(dim=1) for eye in (EYE_RIGHT, EYE_LEFT))
        irises = torch.stack([right] * 5 + [left] * 5, dim=1)
        positions = functional.pad(mesh[..., :2], (0, 0, 0, NUM_POINTS - _NUM_MESH_POINTS))
        positions[:, self.get_buffer("refined")] = refined
        return torch.cat([positions, torch.cat([depths, irises], dim=1)[..., None]], dim=-1)


def _region_grid() -> Tensor:
    """Returns the centres `[256, 2]` (x, y) of a region's feature pixels, row by row, in a region 64 wide."""
    steps = (torch.arange(_REGION_SIZE, dtype=torch.float32) + 0.5) * _FEATURE_STRIDE
    grid_y, grid_x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2)


def region_matrix(points: Tensor, subset: Tensor, rotation_points: tuple[int, int]) -> Tensor:
    """Returns the rectangle around some points, turned with them, as an affine map.

    Args:
        points: `[B, N, 2]` in input pixels.
        subset: int64 `[n]`, the points the region must hold.
        rotation_points: the region's x axis points from the first to the second.

    Returns:
        `[B, 2, 3]` from the region, which counts as 64 wide and 64 high whatever its shape, to input pixels.
    """
    axis_x = functional.normalize(points[:, rotation_points[1]] - points[:, rotation_points[0]], dim=-1)
    axis_y = torch.stack([-axis_x[:, 1], axis_x[:, 0]], dim=-1)
    axes = torch.stack([axis_x, axis_y], dim=-1)  # columns
    inside = points[:, subset] @ axes
    low, high = inside.amin(dim=1), inside.amax(dim=1)
    centre, extent = (low + high) / 2, (high - low) * _REGION_SCALE
    linear = axes * (extent / (_REGION_SIZE * _FEATURE_STRIDE))[:, None, :]
    corner = axes @ (centre - extent / 2)[..., None]
    return torch.cat([linear, corner], dim=-1)


def sample_regions(features: Tensor, regions: Tensor, grid: Tensor) -> Tensor:
    """Samples regions of a feature map bilinearly; outside the map is zero.

    Args:
        features: `[B, C, H, H]` at a quarter of the input resolution.
        regions: `[B, G, 2, 3]` from `region_matrix`.
        grid: `[256, 2]`, the places to sample in each region.

    Returns:
        `[B, G, C, 16, 16]`.
    """
    normalised = _transform(regions, grid) * (2 / (features.shape[-1] * _FEATURE_STRIDE)) - 1
    sampled = functional.grid_sample(features, normalised, padding_mode="zeros", align_corners=False)
    return sampled.unflatten(-1, (_REGION_SIZE, _REGION_SIZE)).transpose(1, 2)


def _transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Applies `[..., 2, 3]` to `[..., N, 2]`."""
    return points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]


def _blocks(*sizes: tuple[int, int, int], branches: int = 1) -> list[nn.Module]:
    return [
        ResidualBlock(in_channels, out_channels, stride=stride, branches=branches, activation=nn.PReLU)
        for in_channels, out_channels, stride in sizes
    ]


def _narrow(in_channels: int, out_channels: int, *, branches: int) -> list[nn.Module]:
    """Returns layers that reduce the channels and add one block, for the last step before the points."""
    wide = branches * out_channels
    conv = SameConv(branches * in_channels, wide, groups=branches)
    return [conv, nn.PReLU(wide), *_blocks((out_channels, out_channels, 1), branches=branches)]
