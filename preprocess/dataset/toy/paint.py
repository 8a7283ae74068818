"""Colours the open head's surface in the template's coordinates, so that colours move with it.

Irises and brows are larger than life: at 64 px a picture shows 5 mm a pixel.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from flame.heads.open_head import OpenHead
from preprocess.dataset.toy.population import Look

IRIS_RADIUS, PUPIL_RADIUS = 0.0065, 0.0030
"""Metres."""
BROW_HALF_WIDTH = 0.0050

_SCLERA, _TEETH, _TONGUE = (0.85, 0.84, 0.82), (0.75, 0.72, 0.65), (0.13, 0.025, 0.025)
_MOUTH, _SOCKET, _LASHES = (0.03, 0.006, 0.006), (0.20, 0.08, 0.06), (0.01, 0.008, 0.007)
_DEEP, _SHALLOW = 0.105, 0.138
"""Where the dark of the mouth ends and where daylight begins, metres of the template."""
_SMOOTHING_STEPS = 5


class Paint:
    """The paint of all people.

    Args:
        model: the open head.
        parts: `[F]` part of each drawn triangle.

    Attributes:
        attributes: `[V, 5]` what `__call__` needs at each pixel: place in the template, lips, scalp.
    """

    def __init__(self, model: OpenHead, parts: NDArray[np.int64]) -> None:
        self._parts = parts
        self._names = model.part_names
        eyes = [model.joint_names.index(name) for name in ("eye_left", "eye_right")]
        self._eyes = model.joint_template[eyes].numpy()
        lips, scalp = (model.regions[name].float() for name in ("lips", "scalp"))
        self._scalp = _smooth(scalp, model.faces)
        self.attributes = torch.cat([model.template, lips[:, None], self._scalp[:, None]], 1).numpy()

    def lift(self, normals: NDArray[np.float32], look: Look) -> NDArray[np.float32]:
        """How far hair lifts the vertices, `[V, 3]` metres."""
        height = np.float32(look.hair_thickness) * self._scalp.numpy()[:, None]
        return (normals * height).astype(np.float32)

    def __call__(self, face: NDArray[np.int64], seen: NDArray[np.float32], look: Look) -> NDArray[np.float32]:
        """Returns albedos `[N, 3]`.

        Args:
            face: `[N]` the drawn triangle that each pixel sees.
            seen: `[N, 5]` `attributes` there.
            look: of the person.
        """
        place, lips, scalp = seen[:, :3], seen[:, 3:4], seen[:, 4:5]
        part = self._parts[face]
        skin = look.skin * (1 + look.spots(place))
        skin = skin * (1 - look.blush * self._cheeks(place)[:, None] * np.array([0.1, 0.5, 0.5], np.float32))
        colour = _mixed(skin, look.lips, lips)
        colour = _mixed(colour, look.brows, self._brows(place)[:, None])
        colour = _mixed(colour, look.hair, np.clip(8 * (scalp - look.hairline) + 0.5, 0, 1))
        paints = {
            "mouth_cavity": _MOUTH, "tongue": _TONGUE, "teeth_upper": _TEETH, "teeth_lower": _TONGUE,
            "eye_cavity_left": _SOCKET, "eye_cavity_right": _SOCKET, "lashes_upper": _LASHES,
        }  # fmt: skip
        for name, paint in paints.items():
            colour[part == self._names.index(name)] = paint
        # no light is traced: what lies deep in the mouth is darkened by hand
        is_inside = np.isin(part, [self._names.index(name) for name in ("tongue", "teeth_upper", "teeth_lower")])
        colour[is_inside] *= np.clip((place[is_inside, 2:] - _DEEP) / (_SHALLOW - _DEEP), 0.1, 1)
        for middle, name in zip(self._eyes, ("eyeball_left", "eyeball_right"), strict=True):
            is_eye = part == self._names.index(name)
            offset = np.linalg.norm((place[is_eye] - middle)[:, :2], axis=1)
            paint = np.tile(np.array(_SCLERA, np.float32), (len(offset), 1))
            paint[offset < IRIS_RADIUS] = look.iris
            paint[offset < PUPIL_RADIUS] = 0.004
            colour[is_eye] = paint
        return colour

    def _brows(self, place: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much of `[N]` places is brow: an arch above each eye, thin towards the temple."""
        along = (np.abs(place[:, 0]) - 0.012) / 0.042  # 0 at the nose, 1 at the temple
        inside = np.clip(along, 0, 1)
        height = self._eyes[0, 1] + 0.0190 + 0.006 * np.sin(2.6 * inside) - 0.003 * inside
        half_width = BROW_HALF_WIDTH * (1.1 - 0.6 * inside)
        across = 1 - ((place[:, 1] - height) / half_width) ** 2
        is_brow = (along > 0) & (along < 1) & (place[:, 2] > 0.06)
        return np.where(is_brow, np.sqrt(np.clip(across, 0, 1)), 0).astype(np.float32)

    def _cheeks(self, place: NDArray[np.float32]) -> NDArray[np.float32]:
        offset = (np.abs(place[:, :1]) - 0.040) ** 2 + (place[:, 1:2] - self._eyes[0, 1] + 0.04) ** 2
        nose = place[:, :1] ** 2 + (place[:, 1:2] - self._eyes[0, 1] + 0.042) ** 2
        front = place[:, 2] > 0.05
        return np.where(front, np.exp(-offset / 0.018**2).ravel() + np.exp(-nose / 0.012**2).ravel(), 0)


def _mixed(colour: NDArray, other: NDArray, share: NDArray) -> NDArray:
    return colour + share * (other - colour)


def _smooth(values: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Values `[V]` averaged over neighbours a few times."""
    start = faces.ravel()
    end = faces.roll(1, 1).ravel()
    for _ in range(_SMOOTHING_STEPS):
        total = values.clone().index_add_(0, start, values[end]).index_add_(0, end, values[start])
        ones = torch.ones_like(values[start])
        count = torch.ones_like(values).index_add_(0, start, ones).index_add_(0, end, ones)
        values = total / count
    return values
