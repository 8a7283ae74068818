"""Faces of a toy dataset that follow tracked motion: each person acts out some frames of a clip."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.heads.head_model import HeadParams
from preprocess.dataset.toy.population import Person
from preprocess.tracking.motion import Motion

YAW_OFFSET = 0.45
"""Radians: a person as a whole is turned within this, so that clips of frontal heads show sides as well."""


def follow_motion(
    motions: Sequence[Motion], person: Person, count: int, random: np.random.Generator
) -> tuple[HeadParams[NDArray[np.float32]], NDArray[np.float32]]:
    """Faces of a person in frames of one of the clips, in their order, and the turns of the head, see `draw_faces`.

    Raises:
        InputError: a clip shows no face.
    """
    motion = motions[int(random.integers(len(motions)))]
    seen = np.flatnonzero(motion.valid)
    if not len(seen):
        raise InputError(f"{motion.source or 'a motion'}: expected frames with a face, it has none: leave it out")
    frames = np.sort(seen[random.choice(len(seen), count, replace=count > len(seen))])
    matrix = axis_angle_to_matrix(torch.from_numpy(motion.rotation[frames]))
    turns = np.radians(np.stack([angle.numpy() for angle in matrix_to_euler_degrees(matrix)], 1))
    turns[:, 0] += random.uniform(-YAW_OFFSET, YAW_OFFSET)
    still = np.zeros((count, 3), np.float32)
    shape = np.tile(person.shape, (count, 1))
    head = HeadParams(shape, motion.expression[frames], still, motion.jaw[frames], motion.eyes[frames])
    return head, turns.astype(np.float32)
