"""The short-range BlazeFace detector (Bazarevsky et al. 2019, arXiv:1907.05047), as in MediaPipe."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from preprocess.faces.networks.blocks import ResidualBlock, SameConv

NUM_ANCHORS = 896


class FaceDetectorNetwork(nn.Module):
    """Maps images `[B, 3, 128, 128]` in [-1, 1] to raw boxes `[B, 896, 16]` (input pixels) and logits `[B, 896]`.

    A box is its centre as an offset from the anchor, width, height, and six key points (x, y) as offsets from the
    anchor. Anchors: two per cell of the 16x16 grid, then six per cell of the 8x8 grid, row by row.
    """

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, 24, kernel=5, stride=2)
        fine = [(24, 24, 1), (24, 28, 1), (28, 32, 2), (32, 36, 1), (36, 42, 1), (42, 48, 2), (48, 56, 1)]
        fine += [(56, 64, 1), (64, 72, 1), (72, 80, 1), (80, 88, 1)]
        coarse = [(88, 96, 2)] + [(96, 96, 1)] * 4
        self.fine = nn.Sequential(*[_block(*sizes) for sizes in fine])
        self.coarse = nn.Sequential(*[_block(*sizes) for sizes in coarse])
        self.fine_score = SameConv(88, 2)
        self.coarse_score = SameConv(96, 6)
        self.fine_box = SameConv(88, 2 * 16)
        self.coarse_box = SameConv(96, 6 * 16)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns raw boxes and logits."""
        fine = self.fine(functional.relu(self.stem(images)))
        coarse = self.coarse(fine)
        boxes = [_per_anchor(self.fine_box(fine), 16), _per_anchor(self.coarse_box(coarse), 16)]
        logits = [_per_anchor(self.fine_score(fine), 1), _per_anchor(self.coarse_score(coarse), 1)]
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1)[..., 0]


def _block(in_channels: int, out_channels: int, stride: int) -> ResidualBlock:
    return ResidualBlock(in_channels, out_channels, stride=stride, activation=nn.ReLU)


def _per_anchor(grid: Tensor, size: int) -> Tensor:
    """Reshapes `[B, anchors * size, H, W]` to `[B, H * W * anchors, size]`."""
    return grid.permute(0, 2, 3, 1).reshape(len(grid), -1, size)


def anchor_centres() -> Tensor:
    """Returns the centres `[896, 2]` (x, y) of the anchors, as fractions of the input side."""
    grids = []
    for side, per_cell in ((16, 2), (8, 6)):
        steps = (torch.arange(side, dtype=torch.float32) + 0.5) / side
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        grids.append(torch.stack([columns, rows], dim=-1).reshape(-1, 2).repeat_interleave(per_cell, dim=0))
    return torch.cat(grids)
