"""Each local measure notices the spoilt frame that it is for, and none that is spoilt elsewhere."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from flame.landmarks.groups import INNER_LIP_MIDDLES, LID_PAIRS, OUTER_EYE_CORNERS
from local_measures import (
    PATCH_PX,
    Box,
    box_distance,
    eye_box,
    halo_energy,
    halo_ring,
    head_motion,
    mouth_box,
    mouth_gap,
    shut_eyes,
)
from portrait4d.evaluation.pictures import psnr
from portrait4d.losses.perceptual import pyramid_distance
from preprocess.faces.matte import PortraitMatte
from preprocess.tracking.tracker import Tracker


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """A stand-in for the network, whose package tests do not need."""
    assert first.shape == second.shape == (PATCH_PX, PATCH_PX, 3)
    tensors = [torch.from_numpy(item).permute(2, 0, 1)[None].float() / 127.5 - 1 for item in (first, second)]
    return float(pyramid_distance(tensors[0], tensors[1]))


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The public-domain portrait of scikit-image [S, S, 3], its landmarks [478, 3] and its matte [S, S]."""
    frame = Tracker().track_image(skimage.data.astronaut())
    picture = frame.crop.apply(frame.image)
    return picture, frame.motion.landmarks[0], PortraitMatte()(picture)


def _measured(result: np.ndarray, face: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    truth, points, matte = face
    size = len(truth)
    return {
        "left lid": box_distance(result, truth, eye_box(points, 0, size), _distance),
        "right lid": box_distance(result, truth, eye_box(points, 1, size), _distance),
        "mouth": box_distance(result, truth, mouth_box(points, size), _distance),
        "halo": halo_energy(result, truth, halo_ring(matte, matte)),
    }


def _flatten(picture: np.ndarray, box: Box) -> np.ndarray:
    top, left, bottom, right = box
    spoilt = picture.copy()
    spoilt[top + 3 : bottom - 3, left + 3 : right - 3] = picture[top:bottom, left:right].mean((0, 1))
    return spoilt


def test_each_measure_notices_its_own_place_only(face) -> None:
    truth, points, matte = face
    size = len(truth)
    outline = cv2.morphologyEx((matte > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8)) > 0
    haloed = truth.copy()
    haloed[outline & (matte < 0.1)] = 255
    spoilt = {
        "left lid": _flatten(truth, eye_box(points, 0, size)),
        "right lid": _flatten(truth, eye_box(points, 1, size)),
        "mouth": _flatten(truth, mouth_box(points, size)),
        "halo": haloed,
    }
    assert set(_measured(truth, face).values()) == {0.0}
    for name, result in spoilt.items():
        measured = _measured(result, face)
        assert psnr(result, truth) < 60
        for other, value in measured.items():
            most, least = (0.5, 2) if other == "halo" else (0.02, 0.02)  # its coarse blur reaches over the hair
            assert value > least if other == name else value < most, (name, other, value)


def test_halo_of_the_place_that_the_head_left_counts() -> None:
    truth = np.full((128, 128, 3), 90, np.uint8)
    there, before = np.zeros((128, 128), np.float32), np.zeros((128, 128), np.float32)
    there[40:100, 80:110], before[40:100, 20:50] = 1, 1
    ghost = truth.copy()
    ghost[40:100, 20:22] = 200
    assert halo_energy(ghost, truth, halo_ring(there, before)) > 5
    assert halo_energy(ghost, truth, halo_ring(there, there)) < 1
    onto_person = truth.copy()
    onto_person[60:70, 90:96] = 200
    assert halo_energy(onto_person, truth, halo_ring(there, before)) < 0.5


def test_shut_eyes_open_mouths_and_motion_are_read_from_landmarks(face) -> None:
    _, points, _ = face
    clip = np.repeat(points[None].astype(np.float64), 10, 0)
    for upper, lower in LID_PAIRS[3:]:  # the subject's left eye, in one frame
        clip[4, upper, :2] = clip[4, lower, :2]
    assert shut_eyes(clip).tolist() == [[index == 4, False] for index in range(10)]
    upper, lower = INNER_LIP_MIDDLES
    across = np.subtract(*points[list(OUTER_EYE_CORNERS), :2])
    clip[7, lower, :2] = clip[7, upper, :2] + [0, 0.2 * np.linalg.norm(across)]
    assert mouth_gap(clip)[7] == pytest.approx(0.2)
    moved = clip[:1] + [8, 6, 0]
    assert head_motion(moved, clip[0], 512) == pytest.approx(100 * 10 / 512)
