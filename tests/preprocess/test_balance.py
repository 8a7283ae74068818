"""Balancing: powers of two by bins of yaw, alike for a picture and its mirror image."""

import numpy as np
import pytest
import torch

from flame.geometry.camera import Camera
from preprocess.dataset.reading.balance import replica_counts, yaw_degrees
from preprocess.dataset.reading.flip import mirror_label


def test_counts_double_with_each_bin_and_stop_at_sixteen():
    yaw = np.array([0, 9.9, 10, 29.9, 30, 49.9, 50, 69.9, 70, 90, 120, -9.9, -10, -35, -55, -70])
    assert replica_counts(yaw).tolist() == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 16, 1, 2, 4, 8, 16]


def test_yaw_is_the_public_angle_and_changes_sign_in_the_mirror():
    yaw, pitch = torch.tensor([-60.0, 0, 15, 80]), torch.tensor([10.0, -20, 5, 0])
    labels = Camera.orbit(yaw, pitch, radius=4.2, target=torch.zeros(3)).to_label25(axes="opengl").numpy()
    assert yaw_degrees(labels) == pytest.approx(yaw.numpy(), abs=1e-3)
    assert yaw_degrees(mirror_label(labels)) == pytest.approx(-yaw.numpy(), abs=1e-3)
