"""Teeth: where they stand, their picture in a photo, and a small model of how they look in many people.

The upper row is a strip along half an ellipse; a place on it is the length of arc from the midline and the height above
the biting edge. `scripts/learn_teeth.py` laid hundreds of smiles on this strip and kept their mean and a few principal
components (`assets/teeth.npz`). A source's own teeth are found in its photo by moving the strip until it looks like the
mean; what the lips hide is completed by the components.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import product

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from portrait4d.engines.lift.view import SourceView

TEXEL = 0.0003
"""Metres of a texel of the strip."""

HALF_WIDTH, TOP, BOTTOM = 0.0318, 0.0105, 0.003
"""The strip's reach in metres: along the arch from the midline, above the biting edge, below it."""

COLUMNS, ROWS = round(2 * HALF_WIDTH / TEXEL), round((TOP + BOTTOM) / TEXEL)

MARGIN = 0.006
"""Metres around the strip in which a source's teeth are looked for."""

_ARCH_HALF_WIDTH, _ARCH_DEPTH = 0.036, 0.05
"""Half axes in metres of the ellipse, fitted to the head model's teeth: across, and from front to back."""

LEAST_MATCH = 0.4
"""Correlation with the mean below which what shows between the lips is not taken for upper teeth."""


MOST_UNUSUAL = 6.0
"""`Shift.cost` of the most unusual place where teeth are looked for."""


@dataclass(frozen=True)
class Placement:
    """Where a row of teeth stands.

    Attributes:
        edge: [3] the middle of the biting edge, metres in the head frame.
        shift: metres along the arch, towards the subject's left.
        scale: size over the usual one.
        curve: how fast the edge rises towards the sides, in 1 / metres: height = curve * arc².
    """

    edge: np.ndarray
    shift: float = 0.0
    scale: float = 1.0
    curve: float = 0.0


@dataclass(frozen=True)
class TeethModel:
    """How upper teeth and gums look, on the strip; colours are relative to the teeth's own.

    Attributes:
        mean: [ROWS, COLUMNS, 3].
        components: [K, ROWS, COLUMNS, 3], each scaled to one standard deviation.
        edge: [COLUMNS] height of the biting edge in metres.
        tooth_colour: [3] mean sRGB of teeth, in [0, 1].
        skin_colour: [3] mean sRGB of the skin around the same mouths.
    """

    mean: np.ndarray
    components: np.ndarray
    edge: np.ndarray
    tooth_colour: np.ndarray
    skin_colour: np.ndarray

    @property
    def opacity(self) -> np.ndarray:
        """[ROWS, COLUMNS] in [0, 1]: 1 above the biting edge."""
        _, height = strip_grid()
        return np.clip((height - self.edge) / (2 * TEXEL) + 0.5, 0, 1).astype(np.float32)


@cache
def load_teeth_model() -> TeethModel:
    """The learned model, from the assets."""
    with (files("portrait4d") / "assets" / "teeth.npz").open("rb") as file, np.load(file) as arrays:
        return TeethModel(**{name: arrays[name].astype(np.float32) for name in arrays.files})


def arch_points(along: np.ndarray, height: np.ndarray, place: Placement) -> np.ndarray:
    """Head-frame points [..., 3] of the upper row.

    Args:
        along: [...] metres of arc from the midline, towards the subject's left (x > 0).
        height: [...] metres above the biting edge.
        place: where the row stands.
    """
    angle = np.linspace(0, np.pi / 2, 400)
    step = np.hypot(_ARCH_HALF_WIDTH * np.cos(angle), _ARCH_DEPTH * np.sin(angle))
    arc = np.concatenate([[0], np.cumsum((step[1:] + step[:-1]) / 2 * np.diff(angle))])
    placed = along * place.scale + place.shift
    at = np.interp(np.abs(placed), arc, angle)
    x = np.sign(placed) * _ARCH_HALF_WIDTH * np.sin(at)
    y = height * place.scale + place.curve * along**2
    return place.edge + np.stack([x, y, -_ARCH_DEPTH * (1 - np.cos(at))], -1)


def usual_placement(model: HeadModel, shape: Tensor) -> Placement:
    """Where the head model of shape [1, S] has its upper teeth."""
    rest = model.shaped(shape, torch.zeros(1, model.num_expression))[0]
    teeth = rest[model.regions["teeth_upper"]]
    front = teeth[teeth[:, 2] > teeth[:, 2].max() - 0.004]
    return Placement(np.array([0.0, float(front[:, 1].min()), float(teeth[:, 2].max())]))


def strip_grid(margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Arc lengths and heights [H, W] of the strip's texels, row 0 at the gums; `margin` metres more on each side."""
    extra = round(margin / TEXEL)
    along = (np.arange(-extra, COLUMNS + extra) + 0.5) * TEXEL - HALF_WIDTH
    height = TOP - (np.arange(-extra, ROWS + extra) + 0.5) * TEXEL
    grid = np.meshgrid(along, height)
    return grid[0], grid[1]


def sample_strip(canvas: np.ndarray, view: SourceView, place: Placement) -> np.ndarray:
    """What a canvas [H, W, C] shows at the strip's texels and `MARGIN` around, float32 [h, w, C]; 0 outside it."""
    along, height = strip_grid(MARGIN)
    points = torch.from_numpy(arch_points(along, height, place).reshape(-1, 3).astype(np.float32))
    pixels = view.to_canvas(points)[:, :2].numpy().reshape(*along.shape, 2) - 0.5
    return cv2.remap(canvas, pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@dataclass(frozen=True)
class Shift:
    """A change of a row's place: metres along the arch and upwards, scale, curve (see `Placement`)."""

    along: float = 0.0
    up: float = 0.0
    scale: float = 1.0
    curve: float = 0.0

    def applied(self, place: Placement) -> Placement:
        """The place after the change, of a place that was neither shifted nor scaled."""
        edge = place.edge + np.array([0.0, self.up, 0.0])
        return Placement(edge, self.along, self.scale, self.curve)

    def warp(self, strip: np.ndarray) -> np.ndarray:
        """Takes a strip with margin [h, w, C] to one without [ROWS, COLUMNS, C], as seen from the changed place."""
        along, height = strip_grid()
        x = (along * self.scale + self.along + HALF_WIDTH + MARGIN) / TEXEL - 0.5
        y = (TOP + MARGIN - height * self.scale - self.up - self.curve * along**2) / TEXEL - 0.5
        maps = (x.astype(np.float32), y.astype(np.float32))
        return cv2.remap(strip, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    @property
    def cost(self) -> float:
        """How unusual the change is: a sum of squares."""
        return (
            (self.along / 0.0015) ** 2 + (self.up / 0.004) ** 2 + ((self.scale - 1) / 0.08) ** 2 + (self.curve / 4) ** 2
        )


def match_teeth(
    strip: np.ndarray, target: np.ndarray, weight: np.ndarray, start: Shift | None = None
) -> tuple[float, Shift]:
    """Finds the change of place after which a strip looks most like a target.

    Coordinate search for the largest correlation of brightness over the known texels, less a little for an unusual
    change and for known texels that the target does not explain.

    Args:
        strip: [h, w, 4] with margin: colours, and how far a texel is known.
        target: [ROWS, COLUMNS] brightness.
        weight: [ROWS, COLUMNS] of the target's texels.
        start: the first guess; without one, all places are tried.

    Returns:
        The score, at most 1, and the change.
    """
    reduced = np.stack([strip[..., :3].mean(-1), strip[..., 3]], -1).astype(np.float32)

    available = max(float(strip[..., 3].sum()), 1.0)

    def score(shift: Shift) -> float:
        brightness, known = np.moveaxis(shift.warp(reduced), -1, 0)
        both = known * weight
        total = float(both.sum())
        if total < 150 or shift.cost > MOST_UNUSUAL:
            return -9.0
        first = brightness - (both * brightness).sum() / total
        second = target - (both * target).sum() / total
        spread = np.sqrt((both * first**2).sum() * (both * second**2).sum()) + 1e-6
        missed = 1 - total / available
        return float((both * first * second).sum() / spread) - 0.03 * shift.cost - 0.6 * missed

    tried = [Shift()] if start is None else [start]
    if start is None:
        steps = np.arange(-0.006, 0.0061, 0.0006)
        tried += [Shift(along, up) for along, up in product(steps[5:-5], steps)]
    best = max((score(shift), index) for index, shift in enumerate(tried))
    value, shift = best[0], tried[best[1]]
    for size in (1.0, 1.0, 0.5, 0.5, 0.25, 0.25):
        for name, step in (("along", 0.0006), ("up", 0.0006), ("scale", 0.06), ("curve", 4.0)):
            near = [_moved(shift, name, size * step * count) for count in (-2, -1, 1, 2)]
            found = max((score(item), index) for index, item in enumerate(near))
            if found[0] > value:
                value, shift = found[0], near[found[1]]
    return value, shift


def _moved(shift: Shift, name: str, amount: float) -> Shift:
    return replace(shift, **{name: getattr(shift, name) + amount})


def tooth_colour(strip: np.ndarray) -> np.ndarray:
    """RGB [3] of the teeth on a strip [h, w, 4]: the mean of what is known."""
    known = strip[..., 3:]
    return (strip[..., :3] * known).sum((0, 1)) / max(float(known.sum()), 1e-3)


def complete_teeth(model: TeethModel, strip: np.ndarray) -> np.ndarray:
    """Completes a strip [ROWS, COLUMNS, 4] of a photo by the model, float32 [ROWS, COLUMNS, 3].

    The components are fitted to the known texels by ridge regression, as if each had one standard deviation.
    """
    known = strip[..., 3] > 0.9
    if not known.any():
        return (model.mean * model.tooth_colour).clip(0, 1)
    colour = strip[known, :3].sum(0) / model.mean[known].sum(0)
    basis = model.components[:, known].reshape(len(model.components), -1).T
    wanted = (strip[known, :3] / np.maximum(colour, 1e-3) - model.mean[known]).reshape(-1)
    noise = 0.15**2 * 200  # neighbouring texels of a photo are not independent
    system = basis.T @ basis + noise * np.eye(basis.shape[1])
    weights = np.clip(np.linalg.solve(system, basis.T @ wanted), -2.5, 2.5)
    guess = colour * (model.mean + np.tensordot(weights, model.components, 1))
    inside = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    share = cv2.GaussianBlur(inside, (0, 0), 1.2)[..., None] * known[..., None]
    return (guess + share * (strip[..., :3] - guess)).clip(0, 1).astype(np.float32)
