"""Who is in a toy dataset and what they do: how shapes, colours, places, faces and poses are drawn.

Colours are albedos and lights in linear RGB. All numbers that shape the population are the constants of this file.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.heads.expression_names import LOOKS
from flame.heads.head_model import HeadModel, HeadParams
from preprocess.fitting.config import FitConfig

SHAPE_SIGMA, SHAPE_LIMIT = 0.8, 2.0
"""Of the 300 shape coefficients, which are 1 over the population of the open head; cut off at the limit."""
SIZE_MEAN, SIZE_SIGMA = -0.8, 0.35
"""Of the first of them, the size of the head: a cube of 0.33 m around the pivot holds nearly all heads with hair."""
YAW, PITCH, ROLL = 0.7, 0.3, 0.1
"""Turns of the head are uniform within these, radians."""
JAW_OPEN, JAW_SKEW = 0.8, 2.5
"""The mouth opens by `JAW_OPEN u ** JAW_SKEW` of the expression jawOpen, u uniform: mostly closed.

The jaw's joint rests, as in fits of this head model."""
GAZE_YAW, GAZE_PITCH, SQUINT = 0.35, 0.2, 0.02
"""Turns of the eyes are uniform within the first two; between left and right the third (sigma). Radians."""
BLINK_SHARE, WINK_SHARE = 0.2, 0.15
"""Lids close in this share of the pictures, and of those on one side only."""
SMILE_SHARE, FROWN_SHARE = 0.5, 0.15
BROW_UP_SHARE, BROW_DOWN_SHARE = 0.3, 0.25
"""Shares of the pictures in which an action is on; its strength is then uniform in 0.25 ... 1, its sides alike by 10 %.

Of the two in a line at most one is on.
"""

_SKIN_TONES = ((0.72, 0.47, 0.36), (0.60, 0.36, 0.25), (0.42, 0.23, 0.14), (0.24, 0.12, 0.07), (0.10, 0.05, 0.03))
_HAIR_TONES = (
    *((0.010, 0.008, 0.007), (0.035, 0.018, 0.010), (0.10, 0.05, 0.022), (0.30, 0.17, 0.06), (0.50, 0.34, 0.14)),
    *((0.28, 0.07, 0.02), (0.40, 0.39, 0.38)),
)
_IRIS_TONES = ((0.035, 0.016, 0.008), (0.08, 0.035, 0.012), (0.06, 0.09, 0.035), (0.05, 0.13, 0.24), (0.10, 0.13, 0.15))
_LIP_TINT = ((0.75, 1.0), (0.35, 0.55), (0.45, 0.7))
"""Lips are the skin's colour times a factor in these ranges."""
HAIR_THICKNESS = (0.002, 0.010)
"""Metres by which the scalp is lifted."""
HAIRLINE = (0.15, 0.6)
"""Hair begins where the smoothed scalp exceeds a value in this range."""
_NUM_WAVES = 4


@dataclass(frozen=True)
class Waves:
    """A smooth random pattern: the sum of `amplitude * sin(frequency . x + phase)`.

    Attributes:
        frequency: `[K, D]` radians per unit of the D coordinates.
        phase: `[K]`.
        amplitude: `[K, C]` of the C channels.
    """

    frequency: NDArray[np.float32]
    phase: NDArray[np.float32]
    amplitude: NDArray[np.float32]

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[N, D]` -> `[N, C]`."""
        return np.sin(points @ self.frequency.T + self.phase) @ self.amplitude


@dataclass(frozen=True)
class Look:
    """The colours of a person, `[3]` each.

    Attributes:
        skin, lips, iris, hair, brows: albedos.
        blush: how much redder the cheeks and the nose are.
        hair_thickness: metres.
        hairline: see `HAIRLINE`.
        spots: variation of the skin over the template, metres -> a factor.
    """

    skin: NDArray[np.float32]
    lips: NDArray[np.float32]
    iris: NDArray[np.float32]
    hair: NDArray[np.float32]
    brows: NDArray[np.float32]
    blush: float
    hair_thickness: float
    hairline: float
    spots: Waves


@dataclass(frozen=True)
class Place:
    """Where a person is photographed.

    Attributes:
        to_light: `[3]` unit vector in camera space.
        lamp: `[3]` its strength.
        ambient: `[3]`.
        corners: `[2, 2, 3]` of the background: top to bottom, left to right.
        pattern: over the background, picture sides -> a factor.
    """

    to_light: NDArray[np.float32]
    lamp: NDArray[np.float32]
    ambient: NDArray[np.float32]
    corners: NDArray[np.float32]
    pattern: Waves


@dataclass(frozen=True)
class Person:
    """One identity: `shape` `[S]`, its colours, and its place."""

    shape: NDArray[np.float32]
    look: Look
    place: Place


def draw_person(model: HeadModel, random: np.random.Generator) -> Person:
    """A person."""
    shape = random.normal(0, SHAPE_SIGMA, model.num_shape)
    shape[0] = random.normal(SIZE_MEAN, SIZE_SIGMA)
    shape = np.clip(shape, -SHAPE_LIMIT, SHAPE_LIMIT)
    return Person(shape.astype(np.float32), _draw_look(random), _draw_place(random))


def draw_faces(
    model: HeadModel, person: Person, count: int, random: np.random.Generator
) -> tuple[HeadParams[NDArray[np.float32]], NDArray[np.float32]]:
    """Faces of a person, the neck at rest, and the turns of the head `[N, 3]`: yaw, pitch, roll.

    The turns are radians with the signs of the public angles: nose to the viewer's right, up, clockwise.
    """
    expression = np.zeros((count, model.num_expression), np.float32)
    still, eyes = np.zeros((count, 3), np.float32), np.zeros((count, 2, 3), np.float32)
    for index in range(count):
        expression[index, model.expression_names.index("jawOpen")] = JAW_OPEN * random.random() ** JAW_SKEW
        eyes[index, :, :2] = random.uniform(-1, 1, 2) * [GAZE_PITCH, GAZE_YAW]
        eyes[index, :, 1] += random.normal(0, SQUINT, 2)
        for name, strength in _draw_actions(eyes[index], random).items():
            expression[index, model.expression_names.index(name)] = strength
    turns = random.uniform(-1, 1, (count, 3)) * [YAW, PITCH, ROLL]
    head = HeadParams(np.tile(person.shape, (count, 1)), expression, still, still, eyes)
    return head, turns.astype(np.float32)


def _draw_actions(eyes: NDArray[np.float32], random: np.random.Generator) -> dict[str, float]:
    """Strengths of named expressions; `eyes` `[2, 3]`, which the lids follow as in a fit."""
    strength: dict[str, float] = {}
    for grows, falls, joint, axis in LOOKS:
        look = float(eyes[int(joint == "eye_right"), axis]) / FitConfig.look_radians
        strength[grows if look > 0 else falls] = min(abs(look), 1.0)
    if random.random() < BLINK_SHARE:
        sides = _sides(random)
        if random.random() < WINK_SHARE:
            sides[random.integers(2)] = 0.0
        strength |= _both("eyeBlink", sides)
    kind = random.random()
    if kind < SMILE_SHARE:
        strength |= _both("mouthSmile", _sides(random))
    elif kind < SMILE_SHARE + FROWN_SHARE:
        strength |= _both("mouthFrown", _sides(random))
    kind = random.random()
    if kind < BROW_UP_SHARE:
        sides = _sides(random)
        strength |= _both("browOuterUp", sides) | {"browInnerUp": float(sides.mean())}
    elif kind < BROW_UP_SHARE + BROW_DOWN_SHARE:
        strength |= _both("browDown", _sides(random))
    return strength


def _sides(random: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(random.uniform(0.25, 1) * random.normal(1, 0.1, 2), 0, 1)


def _both(name: str, sides: NDArray[np.float64]) -> dict[str, float]:
    return {f"{name}Left": float(sides[0]), f"{name}Right": float(sides[1])}


def _draw_look(random: np.random.Generator) -> Look:
    tone = random.uniform(0, len(_SKIN_TONES) - 1)
    skin = _between(_SKIN_TONES, tone) * random.normal(1, 0.05, 3)
    is_dark = random.random() < tone / (len(_SKIN_TONES) - 1)
    hair = np.array(_HAIR_TONES[random.integers(2 if is_dark else len(_HAIR_TONES))]) * random.uniform(0.7, 1.3)
    iris = np.array(_IRIS_TONES[random.integers(2 if is_dark else len(_IRIS_TONES))]) * random.uniform(0.7, 1.3)
    lips = skin * [random.uniform(*limits) for limits in _LIP_TINT]
    brows = np.minimum(hair * 0.6, skin * 0.2)  # fair brows on fair skin could not be read at 64 px
    spots = _waves(random, dimensions=3, wavelength=(0.05, 0.25), amplitude=0.04, is_grey=True)
    colours = {"skin": skin, "lips": lips, "iris": iris, "hair": hair, "brows": brows}
    return Look(
        **{name: np.clip(colour, 0.003, 0.9).astype(np.float32) for name, colour in colours.items()},
        blush=random.uniform(0, 0.5),
        hair_thickness=random.uniform(*HAIR_THICKNESS),
        hairline=random.uniform(*HAIRLINE),
        spots=spots,
    )


def _draw_place(random: np.random.Generator) -> Place:
    across, up = random.uniform(-0.9, 0.9), random.uniform(-0.1, 0.9)
    to_light = np.array([math.sin(across) * math.cos(up), math.sin(up), math.cos(across) * math.cos(up)])
    ambient = random.uniform(0.25, 0.5) * random.uniform(0.9, 1.1, 3)
    lamp = random.uniform(0.5, 0.9) * random.uniform(0.9, 1.1, 3)
    middle = random.uniform(0.02, 0.6) * random.uniform(0.6, 1.4, 3)
    corners = np.clip(middle * (1 + random.normal(0, 0.5, (2, 2, 1)) + random.normal(0, 0.15, (2, 2, 3))), 0, 1)
    pattern = _waves(random, dimensions=2, wavelength=(0.25, 1.5), amplitude=0.15, is_grey=False)
    numbers = {"to_light": to_light, "lamp": lamp, "ambient": ambient, "corners": corners}
    return Place(**{name: values.astype(np.float32) for name, values in numbers.items()}, pattern=pattern)


def _waves(
    random: np.random.Generator,
    *,
    dimensions: int,
    wavelength: tuple[float, float],
    amplitude: float,
    is_grey: bool,
) -> Waves:
    direction = random.normal(0, 1, (_NUM_WAVES, dimensions))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = direction * (2 * math.pi / random.uniform(*wavelength, (_NUM_WAVES, 1)))
    strength = amplitude * random.normal(0, 1, (_NUM_WAVES, 1)) * np.ones((1, 3))
    if not is_grey:
        strength += 0.3 * amplitude * random.normal(0, 1, (_NUM_WAVES, 3))
    phase = random.uniform(0, 2 * math.pi, _NUM_WAVES)
    return Waves(*(values.astype(np.float32) for values in (frequency, phase, strength)))


def _between(tones: tuple[tuple[float, ...], ...], place: float) -> NDArray[np.float64]:
    lower = min(int(place), len(tones) - 2)
    return np.array(tones[lower]) * (lower + 1 - place) + np.array(tones[lower + 1]) * (place - lower)
