"""Pictures under a matrix, and the camera that would have taken the warped picture.

torch's `grid_sample` has no second derivative, which the gradient penalty needs; this sampler is made of operations
that have one. It reads four pixels and does not antialias: a picture that shrinks to half its size or less would show
it, at the zooms of an augmentation (a fifth) nothing does.
"""

import torch
from torch import Tensor

from flame.geometry.camera import Camera


def warp(picture: Tensor, target_to_source: Tensor) -> Tensor:
    """Samples bilinearly where a matrix sends the pixel centres of the result; outside, the picture is reflected.

    Equals `grid_sample(mode="bilinear", padding_mode="reflection", align_corners=False)` up to rounding; under the
    identity and shifts by whole pixels the values are those of the picture, bit by bit. Twice differentiable in the
    picture, and in the matrix except where a sample crosses a pixel centre.

    Args:
        picture: `[B, C, H, W]`.
        target_to_source: `[B, 2, 3]` or `[B, 3, 3]` affine, between positions in shares of width and height: (0, 0) is
            the top-left corner of the picture, (1, 1) the bottom-right one.
    """
    batch, channels, height, width = picture.shape
    if target_to_source.shape not in ((batch, 2, 3), (batch, 3, 3)):
        raise ValueError(f"expected a matrix [{batch}, 2, 3] or [{batch}, 3, 3], got {list(target_to_source.shape)}")
    x, y = _source_pixels(target_to_source, height, width)
    left, right, to_right = _neighbours(x, width)
    top, bottom, to_bottom = _neighbours(y, height)
    flat = picture.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, index).unflatten(2, (height, width))

    to_right, to_bottom = to_right[:, None].to(picture.dtype), to_bottom[:, None].to(picture.dtype)
    upper = torch.lerp(at(top, left), at(top, right), to_right)
    lower = torch.lerp(at(bottom, left), at(bottom, right), to_right)
    return torch.lerp(upper, lower, to_bottom)


def move_camera(camera: Camera, source_to_target: Tensor) -> Camera:
    """The camera whose picture is the warped one: a roll about its axis and other intrinsics, exactly.

    With A the linear part of the intrinsics and L that of the map, `L A = U Q`: U, upper triangular, is the new linear
    part, and Q, a rotation, the roll. In square pixels a rotation of the picture is a roll (and moves a principal point
    that is not in the middle), a zoom a focal length, and a shift a principal point.

    Args:
        camera: B cameras.
        source_to_target: `[B, 2, 3]` affine without reflection, in shares of width and height.
    """
    linear, offset = source_to_target[:, :2, :2], source_to_target[:, :2, 2:]
    intrinsics = camera.intrinsics
    (a, b), (c, d) = [row.unbind(1) for row in (linear @ intrinsics[:, :2, :2]).unbind(1)]
    length = torch.hypot(c, d)
    sine, cosine = c / length, d / length
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    centre = linear @ intrinsics[:, :2, 2:] + offset
    upper = _matrix([[a * cosine - b * sine, a * sine + b * cosine], [zero, length]])
    roll = _matrix(  # camera axes have y up, so the angle turns the other way than in the picture
        [[cosine, -sine, zero, zero], [sine, cosine, zero, zero], [zero, zero, one, zero], [zero, zero, zero, one]]
    )
    moved = torch.cat([torch.cat([upper, centre], 2), intrinsics[:, 2:]], 1)
    return Camera(camera.cam2world @ roll, moved)


def mirror_camera(camera: Camera, is_mirrored: Tensor) -> Camera:
    """The cameras of mirrored pictures of mirrored heads, `S C S` with `S = diag(-1, 1, 1)`.

    The same as `preprocess.dataset.reading.flip.mirror_label`, for tensors.

    Args:
        camera: B cameras.
        is_mirrored: `[B]` bool; the others stay.
    """
    sign = camera.cam2world.new_tensor([-1.0, 1.0, 1.0, 1.0])
    cam2world = camera.cam2world * sign * sign[:, None]
    skew = camera.intrinsics.new_tensor([[1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    one = camera.intrinsics.new_tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    intrinsics = camera.intrinsics * skew + one
    chosen = is_mirrored[:, None, None]
    return Camera(torch.where(chosen, cam2world, camera.cam2world), torch.where(chosen, intrinsics, camera.intrinsics))


def _source_pixels(matrix: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Positions x and y of each target pixel, `[B, H, W]`, in source pixels from the picture's corner."""
    column = torch.arange(width, dtype=matrix.dtype, device=matrix.device) + 0.5
    row = (torch.arange(height, dtype=matrix.dtype, device=matrix.device) + 0.5)[:, None]
    (xx, xy, x0), (yx, yy, y0) = [line[..., None, None].unbind(1) for line in matrix[:, :2].unbind(1)]
    x = xx * column + xy * (width / height) * row + x0 * width
    y = yx * (height / width) * column + yy * row + y0 * height
    return x, y


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels before and after a position, and the share of the way from one to the other."""
    folded = torch.remainder(position, 2 * size)  # the picture and its reflection repeat
    folded = torch.minimum(folded, 2 * size - folded)
    index = (folded - 0.5).clamp(0, size - 1)  # from the centre of the first pixel
    before = index.detach().floor()
    first = before.long()
    return first, (first + 1).clamp(max=size - 1), index - before


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    """`[B, N, M]` of entries `[B]`."""
    return torch.stack([torch.stack(row, 1) for row in rows], 1)
