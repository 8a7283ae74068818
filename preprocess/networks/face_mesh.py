"""Attention mesh (Grishchenko et al. 2020, arXiv:2006.10962), as in MediaPipe: 468 points plus lips, eyes, irises.

A trunk predicts the 468 points; from them three regions (lips, both eyes) are cut out of an early
feature map, upright, and three branches, later five heads, refine the points in them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from preprocess.networks.blocks import ResidualBlock, SameConv
from preprocess.networks.mesh_indices import EYE_LEFT, EYE_RIGHT, LIPS

INPUT_SIZE = 192
_FEATURE_STRIDE = 4
_REGION_SIZE = 16  # feature pixels across a region
_REGION_SCALE = 1.5  # side of a region over the extent of its points
# Region: its points and the two that give its rotation, in the order of the branches.
# "right" is the subject's; the rotation points run from left to right in the picture.
_REGIONS = ((LIPS, (61, 291)), (EYE_RIGHT, (33, 133)), (EYE_LEFT, (362, 263)))
_NUM_BRANCHES = len(_REGIONS)
_BRANCH_OF_HEAD = (0, 1, 1, 2, 2)  # lips, right eye, right iris, left eye, left iris
_POINTS_OF_HEAD = (len(LIPS), len(EYE_RIGHT), 5, len(EYE_LEFT), 5)


@dataclass(frozen=True)
class MeshOutput:
    """Raw predictions in pixels of the 192x192 input, top-left corner at 0.

    Attributes:
        mesh: `[B, 468, 3]`; z in the same unit.
        lips, right_eye, right_iris, left_eye, left_iris: refined points `[B, 80 | 71 | 5 | 71 | 5, 2]`.
        presence: logit `[B]` of "this is a face".
    """

    mesh: Tensor
    lips: Tensor
    right_eye: Tensor
    right_iris: Tensor
    left_eye: Tensor
    left_iris: Tensor
    presence: Tensor


class FaceMeshNetwork(nn.Module):
    """Face crops `[B, 3, 192, 192]` in [0, 1] to `MeshOutput`."""

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
        self.points = nn.ModuleList([nn.Conv2d(32, 2 * count, 2) for count in _POINTS_OF_HEAD])
        self.presence = nn.Conv2d(32, 1, 3)

    def forward(self, images: Tensor) -> MeshOutput:
        early = self.early(self.stem(images))
        final = self.trunk(early)
        mesh = self.mesh(final).reshape(-1, 468, 3)
        presence = self.presence(final).reshape(-1)
        regions = torch.stack([region_matrix(mesh[..., :2], *region) for region in _REGIONS], dim=1)
        crops = sample_regions(early, regions)
        branches = self.branches(crops.flatten(1, 2)).unflatten(1, (_NUM_BRANCHES, -1))
        heads = self.heads(branches[:, list(_BRANCH_OF_HEAD)].flatten(1, 2)).unflatten(1, (len(_BRANCH_OF_HEAD), -1))
        refined = [
            _transform(regions[:, branch], layer(heads[:, index]).reshape(len(images), -1, 2))
            for index, (branch, layer) in enumerate(zip(_BRANCH_OF_HEAD, self.points, strict=True))
        ]
        return MeshOutput(mesh, *refined, presence=presence)


def region_matrix(points: Tensor, subset: tuple[int, ...], rotation_points: tuple[int, int]) -> Tensor:
    """The upright square-grid region around some points, as an affine map.

    Args:
        points: `[B, N, 2]` in input pixels.
        subset: the points the region must hold.
        rotation_points: from the first to the second is the region's x axis.

    Returns:
        `[B, 2, 3]`: position in the region, in input pixels / 4 with the region 64 wide, to input pixels.
    """
    along = points[:, rotation_points[1]] - points[:, rotation_points[0]]
    axis_x = functional.normalize(along, dim=-1)
    axis_y = torch.stack([-axis_x[:, 1], axis_x[:, 0]], dim=-1)
    axes = torch.stack([axis_x, axis_y], dim=-1)  # columns
    inside = points[:, list(subset)] @ axes
    low, high = inside.amin(dim=1), inside.amax(dim=1)
    centre, extent = (low + high) / 2, (high - low) * _REGION_SCALE
    linear = axes * (extent / (_REGION_SIZE * _FEATURE_STRIDE))[:, None, :]
    corner = axes @ (centre - extent / 2)[..., None]
    return torch.cat([linear, corner], dim=-1)


def sample_regions(features: Tensor, regions: Tensor) -> Tensor:
    """Cut regions out of a feature map, bilinearly; zero outside.

    Args:
        features: `[B, C, H, W]` at a quarter of the input resolution.
        regions: `[B, G, 2, 3]` of `region_matrix`.

    Returns:
        `[B, G, C, 16, 16]`.
    """
    batch, groups = regions.shape[:2]
    side = features.shape[-1]
    steps = torch.arange(_REGION_SIZE, dtype=features.dtype, device=features.device) + 0.5
    grid_y, grid_x = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack([grid_x, grid_y], dim=-1).reshape(1, 1, -1, 2).expand(batch, groups, -1, -1)
    positions = _transform(regions, grid * _FEATURE_STRIDE)
    normalised = positions * (2 / (side * _FEATURE_STRIDE)) - 1
    sampled = functional.grid_sample(features, normalised, padding_mode="zeros", align_corners=False)
    return sampled.unflatten(-1, (_REGION_SIZE, _REGION_SIZE)).transpose(1, 2)


def _transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply `[..., 2, 3]` to `[..., N, 2]`."""
    return points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]


def _blocks(*sizes: tuple[int, int, int], branches: int = 1) -> list[nn.Module]:
    return [
        ResidualBlock(in_channels, out_channels, stride=stride, branches=branches, activation=nn.PReLU)
        for in_channels, out_channels, stride in sizes
    ]


def _narrow(in_channels: int, out_channels: int, *, branches: int) -> list[nn.Module]:
    """Fewer channels, then one block, before the points are read off."""
    wide = branches * out_channels
    conv = SameConv(branches * in_channels, wide, groups=branches)
    return [conv, nn.PReLU(wide), *_blocks((out_channels, out_channels, 1), branches=branches)]
