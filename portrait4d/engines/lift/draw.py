"""Drawing: textured triangles over a picture, one surface at a time, premultiplied "over" (Porter, Duff 1984).

Texture coordinates are interpolated linearly on the screen, not in perspective: they are positions in the photo, and
where nothing moved, the map from screen to photo must be the identity. The torch code is the definition; on the CPU
numba loops compute the same.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled
from flame.mesh.raster import Fragments, rasterize

Backend = Literal["auto", "torch", "numba"]

Box = tuple[int, int, int, int]
"""Part of a picture: (top, left, bottom, right) in pixels, ends exclusive."""


def shade(
    fragments: Fragments,
    screen: Tensor,
    faces: Tensor,
    uv: Tensor,
    gain: Tensor,
    texture: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Colour [H, W, 4] of each pixel of one surface, premultiplied; zero outside the surface. Not differentiable.

    Args:
        fragments: which triangle each pixel [H, W] shows, from `rasterize`.
        screen: [V, 3], x and y in pixels and depth in metres, as rasterised.
        faces: [F, 3].
        uv: [V, 2] texture pixels, origin at the top-left corner.
        gain: [V] brightness factor.
        texture: [Ht, Wt, 4] premultiplied, in [0, 1]; sampled bilinearly, its border repeated.
        backend: "auto" is numba on the CPU, else torch.
    """
    if _is_numba(backend, screen):
        arrays = (fragments.face_id, fragments.barycentric, screen, faces, uv, gain, texture)
        return torch.from_numpy(_shade_numba(*(array.detach().contiguous().numpy() for array in arrays)))
    return _shade_torch(fragments, screen, faces, uv, gain, texture)


def _is_numba(backend: Backend, tensor: Tensor) -> bool:
    return backend == "numba" or (backend == "auto" and tensor.device.type == "cpu")


def _shade_torch(
    fragments: Fragments, screen: Tensor, faces: Tensor, uv: Tensor, gain: Tensor, texture: Tensor
) -> Tensor:
    hit = fragments.face_id >= 0
    corners = faces[fragments.face_id[hit]]
    weight = fragments.barycentric[hit] * screen[corners, 2]
    weight = (weight / weight.sum(-1, keepdim=True))[..., None]
    position = (uv[corners] * weight).sum(1) - 0.5
    brightness = (gain[corners, None] * weight).sum(1)
    limit = position.new_tensor([texture.shape[1] - 1, texture.shape[0] - 1])
    position = torch.minimum(position.clamp(min=0), limit)
    low = position.floor().long()
    high = torch.minimum(low + 1, limit.long())
    fraction = position - low
    x, y = fraction[:, :1], fraction[:, 1:]
    top = texture[low[:, 1], low[:, 0]] * (1 - x) + texture[low[:, 1], high[:, 0]] * x
    bottom = texture[high[:, 1], low[:, 0]] * (1 - x) + texture[high[:, 1], high[:, 0]] * x
    colour = top * (1 - y) + bottom * y
    colour[:, :3] *= brightness
    result = texture.new_zeros(*hit.shape, 4)
    result[hit] = colour
    return result


@compiled(fastmath=True)
def _shade_numba(face_id, barycentric, screen, faces, uv, gain, texture):
    height, width = face_id.shape
    one, half = np.float32(1), np.float32(0.5)  # plain numbers would make all of it float64
    right, bottom = texture.shape[1] - 1, texture.shape[0] - 1
    result = np.zeros((height, width, 4), np.float32)
    last = -1
    za = zb = zc = ua = ub = uc = va = vb = vc = ga = gb = gc = one
    for row in range(height):
        for column in range(width):
            face = face_id[row, column]
            if face < 0:
                continue
            if face != last:  # neighbours mostly show the same triangle
                last = face
                a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
                za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
                ua, ub, uc = uv[a, 0], uv[b, 0], uv[c, 0]
                va, vb, vc = uv[a, 1], uv[b, 1], uv[c, 1]
                ga, gb, gc = gain[a], gain[b], gain[c]
            weights = barycentric[row, column]
            wa, wb, wc = weights[0] * za, weights[1] * zb, weights[2] * zc
            scale = one / (wa + wb + wc)
            wa, wb, wc = wa * scale, wb * scale, wc * scale
            brightness = ga * wa + gb * wb + gc * wc
            u = min(max(ua * wa + ub * wb + uc * wc - half, np.float32(0)), np.float32(right))
            v = min(max(va * wa + vb * wb + vc * wc - half, np.float32(0)), np.float32(bottom))
            x0, y0 = int(u), int(v)
            x1, y1 = min(x0 + 1, right), min(y0 + 1, bottom)
            fx, fy = u - np.float32(x0), v - np.float32(y0)
            w00, w01 = (one - fx) * (one - fy), fx * (one - fy)
            w10, w11 = (one - fx) * fy, fx * fy
            for channel in range(4):
                value = (
                    texture[y0, x0, channel] * w00
                    + texture[y0, x1, channel] * w01
                    + texture[y1, x0, channel] * w10
                    + texture[y1, x1, channel] * w11
                )
                result[row, column, channel] = value * brightness if channel < 3 else value
    return result


def put_over(target: Tensor, layer: Tensor, *, backend: Backend = "auto") -> None:
    """Puts a premultiplied layer [H, W, 4] over a premultiplied picture of its size, in place; `backend` as above."""
    if _is_numba(backend, target):
        return _over_numba(target.numpy(), layer.numpy())
    target.mul_(1 - layer[..., 3:]).add_(layer)


@compiled()
def _over_numba(target, layer):
    height, width, channels = target.shape
    for row in range(height):
        for column in range(width):
            rest = np.float32(1) - layer[row, column, 3]
            for channel in range(channels):
                target[row, column, channel] = target[row, column, channel] * rest + layer[row, column, channel]


def blur(layer: Tensor, *, backend: Backend = "auto") -> Tensor:
    """3 x 3 mean of a layer [H, W, 4]; `backend` as in `shade`."""
    if _is_numba(backend, layer):
        return torch.from_numpy(_blur_numba(layer.numpy()))
    mean = torch.nn.functional.avg_pool2d(layer.permute(2, 0, 1)[None], 3, 1, 1, count_include_pad=False)
    return mean[0].permute(1, 2, 0)


@compiled()
def _blur_numba(layer):
    height, width, channels = layer.shape
    result = np.zeros_like(layer)
    for row in range(height):
        top, bottom = max(row - 1, 0), min(row + 2, height)
        for column in range(width):
            left, right = max(column - 1, 0), min(column + 2, width)
            for y in range(top, bottom):
                for x in range(left, right):
                    for channel in range(channels):
                        result[row, column, channel] += layer[y, x, channel]
            count = np.float32((bottom - top) * (right - left))
            for channel in range(channels):
                result[row, column, channel] /= count
    return result


def soften_edges(
    layer: Tensor, depth: Tensor, amount: float, *, step: float = 0.004, backend: Backend = "auto"
) -> Tensor:
    """Anti-aliases folds and openings: the 3 x 3 mean replaces pixels in whose neighbourhood the depth has a step.

    Args:
        layer: [H, W, 4] premultiplied.
        depth: [H, W] metres, inf outside the surface.
        amount: 0 leaves the layer as it is, 1 replaces edge pixels by the mean.
        step: difference of depth in metres that counts as an edge.
        backend: as in `shade`.
    """
    if amount <= 0:
        return layer
    if _is_numba(backend, layer):
        return torch.from_numpy(_soften_numba(layer.contiguous().numpy(), depth.contiguous().numpy(), amount, step))
    near = torch.nn.functional.max_pool2d(-depth[None, None], 3, 1, 1)[0, 0]
    far = torch.nn.functional.max_pool2d(depth[None, None], 3, 1, 1)[0, 0]
    edge = ((far + near > step) & torch.isfinite(near))[..., None].to(layer.dtype) * amount
    return layer + edge * (blur(layer, backend="torch") - layer)


@compiled()
def _soften_numba(layer, depth, amount, step):
    height, width = depth.shape
    result = layer.copy()
    nearest, farthest = np.empty(width, np.float32), np.empty(width, np.float32)  # of the three rows, by column
    for row in range(height):
        top, bottom = max(row - 1, 0), min(row + 2, height)
        nearest[:], farthest[:] = depth[row], depth[row]
        for y in range(top, bottom):
            for column in range(width):
                nearest[column] = min(nearest[column], depth[y, column])
                farthest[column] = max(farthest[column], depth[y, column])
        for column in range(width):
            left, right = max(column - 1, 0), min(column + 2, width)
            near = min(nearest[left], nearest[column], nearest[right - 1])
            far = max(farthest[left], farthest[column], farthest[right - 1])
            if near == np.inf or far - near <= step:
                continue
            share = np.float32(amount / ((bottom - top) * (right - left)))
            for channel in range(4):
                total = np.float32(0)
                for y in range(top, bottom):
                    for x in range(left, right):
                        total += layer[y, x, channel]
                own = layer[row, column, channel]
                result[row, column, channel] = own * np.float32(1 - amount) + share * total
    return result


def draw_surface(
    screen: Tensor, faces: Tensor, uv: Tensor, gain: Tensor, texture: Tensor, *, box: Box
) -> tuple[Tensor, Tensor]:
    """Rasterises and shades one surface.

    Args:
        screen: as in `shade`.
        faces: as in `shade`.
        uv: as in `shade`.
        gain: as in `shade`.
        texture: as in `shade`.
        box: the part of the picture to draw.

    Returns:
        Premultiplied colours [h, w, 4] of the box and the depth [h, w] in metres, inf outside the surface.
    """
    top, left, bottom, right = box
    shifted = screen - screen.new_tensor([left, top, 0])
    fragments = rasterize(shifted, faces, height=bottom - top, width=right - left)
    return shade(fragments, shifted, faces, uv, gain, texture), fragments.depth


def bounding_box(screen: Tensor, height: int, width: int, pad: int = 2) -> Box | None:
    """Box around projected points [V, 2 or more] in pixels, clipped to the picture; None if it is empty."""
    low = (screen[:, :2].amin(0) - pad).floor().long().tolist()
    high = (screen[:, :2].amax(0) + pad).ceil().long().tolist()
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    return (top, left, bottom, right) if right > left and bottom > top else None
