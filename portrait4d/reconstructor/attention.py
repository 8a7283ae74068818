"""Transformer blocks over token grids, with a convolution inside the MLP (SegFormer, Xie et al. 2021, section 3.1).

transformers' SegFormer layer has the same parts, but its key and value are two matrices and it has no
cross-attention; the released weights hold one matrix for both, hence these blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def tokens_to_grid(tokens: Tensor, *, height: int, width: int) -> Tensor:
    """Views `[B, height * width, D]` as `[B, D, height, width]`, in torch's channels-last format."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def grid_to_tokens(grid: Tensor) -> Tensor:
    """The inverse of `tokens_to_grid`; a view of a channels-last picture."""
    return grid.permute(0, 2, 3, 1).flatten(1, 2)


class PatchEmbedding(nn.Module):
    """Stride-2 convolution and norm: `[B, C, H, W]` to tokens `[B, H/2 * W/2, D]`, in row-major order."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.norm(grid_to_tokens(self.proj(x)))


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to others.

    Args:
        dim: size of a token.
        num_heads: heads, which divide `dim`.
        reduction: keys and values come from a grid shrunk by this factor.
    """

    def __init__(self, dim: int, *, num_heads: int, reduction: int = 1) -> None:
        super().__init__()
        self.num_heads, self.reduction = num_heads, reduction
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, stride=reduction)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, others: Tensor | None = None, *, height: int, width: int) -> Tensor:
        """Attention of tokens `[B, N, D]` to `others` `[B, M, D]`, or to `x` itself."""
        if others is not None and self.reduction == 1 and others.shape[1] * self.num_heads < x.shape[2]:
            return self._folded(x, others)
        asked = x if others is None else others
        if self.reduction > 1:
            asked = self.norm(grid_to_tokens(self.sr(tokens_to_grid(asked, height=height, width=width))))
        keys, values = self.kv(asked).chunk(2, -1)
        q, k, v = (self._heads(part) for part in (self.q(x), keys, values))
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _folded(self, x: Tensor, others: Tensor) -> Tensor:
        """The same result, faster for few others: keys and values take the projections of queries and results."""
        keys, values = (self._heads(part) for part in self.kv(others).chunk(2, -1))
        to_query = self.q.weight.unflatten(0, (self.num_heads, -1))
        to_result = self.proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        scale = keys.shape[-1] ** -0.5
        keys, offset = scale * (keys @ to_query), scale * (keys @ self.q.bias.unflatten(0, (self.num_heads, -1, 1)))
        scores = torch.baddbmm(offset.flatten(1, 2).mT, x, keys.flatten(1, 2).mT)
        shares = scores.unflatten(2, (self.num_heads, -1)).softmax(-1).flatten(2)
        return shares @ (values @ to_result).flatten(1, 2) + self.proj.bias

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class MixMLP(nn.Module):
    """Linear layer, depthwise 3x3 convolution on the grid, GELU and linear layer."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = _GridConvolution(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, *, height: int, width: int) -> Tensor:  # noqa: D102
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), height=height, width=width)))


class SelfBlock(nn.Module):
    """Self-attention and MLP, each on normalised tokens and added."""

    def __init__(self, dim: int, *, num_heads: int, mlp_ratio: int = 2, reduction: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=num_heads, reduction=reduction)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MixMLP(dim, mlp_ratio * dim)

    def forward(self, x: Tensor, *, height: int, width: int) -> Tensor:  # noqa: D102
        x = x + self.attn(self.norm1(x), height=height, width=width)
        return x + self.mlp(self.norm2(x), height=height, width=width)


class CrossBlock(nn.Module):
    """Cross-attention to motion tokens first, then self-attention and MLP (Portrait4D, section 3.3, figure 4)."""

    def __init__(self, dim: int, *, num_heads: int, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, num_heads=num_heads)
        self.norm3 = nn.LayerNorm(dim)
        self.mlp = MixMLP(dim, mlp_ratio * dim)

    def forward(
        self, x: Tensor, motion: Tensor | None, *, motion_scale: float | Tensor = 1.0, height: int, width: int
    ) -> Tensor:
        """Applies the block to tokens.

        Args:
            x: `[B, N, D]`.
            motion: tokens `[B, M, D]`; None leaves the cross-attention out, as a scale of 0 does.
            motion_scale: number or `[B, 1, 1]`, multiplies what the motion adds.
            height: of the token grid.
            width: of the token grid.
        """
        if motion is not None:
            x = x + motion_scale * self.attn2(self.norm2(x), motion, height=height, width=width)
        x = x + self.attn1(self.norm1(x), height=height, width=width)
        return x + self.mlp(self.norm3(x), height=height, width=width)


class _GridConvolution(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, tokens: Tensor, *, height: int, width: int) -> Tensor:
        return grid_to_tokens(self.dwconv(tokens_to_grid(tokens, height=height, width=width)))
