"""Blocks of StyleGAN2's discriminator, and the comparison of a batch's pictures with each other.

Karras et al. 2020, section 4, "residual"; minibatch standard deviation: Karras et al. 2018, section 3.
"""

import math

import torch
from torch import Tensor, nn

from portrait4d.stylegan.half import HalfBlock
from portrait4d.stylegan.layers import Conv2d, FullyConnected

_HALF_POWER = math.sqrt(0.5)
"""Gain of each of two summed branches, which keeps the variance."""


def append_batch_deviation(x: Tensor, *, group_size: int | None = 4, num_channels: int = 1) -> Tensor:
    """Appends constant channels: how much a group's pictures differ, averaged over pixels and channels.

    Picture n is grouped with n + B / G, n + 2 B / G, ..., as in the released networks.

    Args:
        x: `[B, C, H, W]`.
        group_size: G, pictures that are compared; smaller batches are one group; None compares all.
        num_channels: channels to append, each of its own C / num_channels channels of x.

    Returns:
        `[B, C + num_channels, H, W]`.

    Raises:
        ValueError: B is not a multiple of the group, or C not of `num_channels`.
    """
    batch, channels, height, width = x.shape
    group = batch if group_size is None else min(group_size, batch)
    if group < 1 or batch % group:
        raise ValueError(f"batch must be a multiple of the group of {group} pictures that are compared, got {batch}")
    if num_channels < 1 or channels % num_channels:
        raise ValueError(f"{channels} channels do not divide into {num_channels} equal parts")
    groups = x.reshape(group, -1, num_channels, channels // num_channels, height, width)
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean([2, 3, 4])
    deviation = deviation[:, :, None, None].repeat(group, 1, height, width)
    return torch.cat([x, deviation], 1)


class DiscriminatorBlock(HalfBlock):
    """One resolution: two convolutions beside a shortcut, both to half of the size.

    Args:
        width: channels at this resolution.
        next_width: channels at half of it.
        picture_channels: of the picture that the first block starts from; 0 for the others, which take features.
        clamp: limit of the activations, which fp16 needs.
        is_half: compute in fp16 on CUDA (see `half`).
    """

    def __init__(
        self,
        width: int,
        next_width: int,
        *,
        picture_channels: int = 0,
        clamp: float | None = None,
        is_half: bool = False,
    ) -> None:
        super().__init__(is_half=is_half)
        self.takes_picture = picture_channels > 0
        if self.takes_picture:
            self.fromrgb = Conv2d(picture_channels, width, kernel_size=1, activation="lrelu", clamp=clamp)
        self.conv0 = Conv2d(width, width, kernel_size=3, activation="lrelu", clamp=clamp)
        self.conv1 = Conv2d(width, next_width, kernel_size=3, activation="lrelu", down=2, clamp=clamp)
        self.skip = Conv2d(width, next_width, kernel_size=1, has_bias=False, down=2)

    def forward(self, x: Tensor) -> Tensor:
        """Takes a picture or features `[B, C, H, W]` to features `[B, next_width, H / 2, W / 2]`."""
        x = x.to(self.compute_dtype(self.conv0.weight))
        if self.takes_picture:
            x = self.fromrgb(x)
        shortcut = self.skip(x, gain=_HALF_POWER)
        return self.conv1(self.conv0(x), gain=_HALF_POWER) + shortcut


class DiscriminatorEpilogue(nn.Module):
    """The last layers: 4x4 features to one number, projected on the condition (Miyato & Koyama 2018).

    Args:
        width: channels of the features.
        condition_dim: size of the mapped condition.
        group_size: see `append_batch_deviation`.
        num_deviation_channels: see `append_batch_deviation`; 0 leaves the comparison out.
        clamp: limit of the convolution's activations.
    """

    def __init__(
        self,
        width: int,
        *,
        condition_dim: int,
        group_size: int | None = 4,
        num_deviation_channels: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.group_size, self.num_deviation_channels = group_size, num_deviation_channels
        self.conv = Conv2d(width + num_deviation_channels, width, kernel_size=3, activation="lrelu", clamp=clamp)
        self.fc = FullyConnected(width * 4**2, width, activation="lrelu")
        self.out = FullyConnected(width, condition_dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Takes features `[B, width, 4, 4]` and mapped condition `[B, condition_dim]` to logits `[B, 1]`."""
        x = x.to(self.conv.weight.dtype)
        if self.num_deviation_channels:
            x = append_batch_deviation(x, group_size=self.group_size, num_channels=self.num_deviation_channels)
        answer = self.out(self.fc(self.conv(x).flatten(1)))
        return (answer * condition).sum(1, keepdim=True) / math.sqrt(condition.shape[1])
