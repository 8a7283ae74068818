"""The aligned crop, against pictures that Portrait4D's own tools have aligned."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.faces.aligned_crop import portrait_crop


def test_aligned_pictures_stay_where_they_are(shared: Path) -> None:
    """Their landmarks ask for the crop that they were found in."""
    with np.load(shared / "data" / "p4d" / "params.npz") as archive:
        portraits = archive["lmk98"]
    corners = np.array([[0.0, 0.0], [512.0, 0.0], [0.0, 512.0], [512.0, 512.0]])
    crops = [portrait_crop(points, image_size=(512, 512)) for points in portraits]
    distances = [float(np.linalg.norm(crop.to_image(corners) - corners, axis=1).mean()) for crop in crops]
    assert len(distances) == 16 and max(distances) < 1, "whole pixels: their tools round the crop"


def test_a_moved_and_scaled_face_moves_and_scales_its_crop(shared: Path) -> None:
    with np.load(shared / "data" / "p4d" / "params.npz") as archive:
        points = archive["lmk98"][0]
    crop = portrait_crop(points, image_size=(512, 512))
    moved = portrait_crop(3 * points + [40.0, -25.0], image_size=(2000, 2000))
    middle = np.array([[256.0, 256.0]])
    assert moved.to_image(middle) == pytest.approx(3 * crop.to_image(middle) + [40.0, -25.0])
    assert moved.scale == pytest.approx(crop.scale / 3)
