"""One head: a pose and parameters, of tensors or of numpy arrays, alone or inside what holds them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadParams
from flame.heads.head_pose import ArrayFields, HeadPose


@dataclass(frozen=True, kw_only=True)
class Held(ArrayFields):
    pose: HeadPose
    error: torch.Tensor


def make_pose(count: int) -> HeadPose:
    values = torch.arange(6.0 * count, dtype=torch.float64).reshape(2, count, 3) / 40
    return HeadPose(rotation=values[0], translation=values[1] + torch.tensor([0, 0, -2.0]))


def test_a_pose_is_built_by_name() -> None:
    with pytest.raises(TypeError):
        HeadPose(torch.zeros(1, 3), torch.zeros(1, 3))  # pyright: ignore[reportCallIssue]


def test_parts_joined_are_the_whole() -> None:
    whole = Held(pose=make_pose(5), error=torch.arange(5))
    joined = Held.concatenate([whole[:2], whole[2], whole[3:4], whole[-1]])
    assert len(whole) == 5 and len(whole[2]) == 1
    for first, second in zip(whole.arrays(), joined.arrays(), strict=True):
        assert torch.equal(first, second)
    assert whole.row(3).pose.rotation.tolist() == whole.pose.rotation[3].tolist()


def test_numpy_and_tensors_say_the_same_vector() -> None:
    vector = torch.arange(874.0).reshape(2, 437)
    head = HeadParams.from_vector437(vector)
    same = HeadParams.from_vector437(vector.numpy())
    assert isinstance(same.eyes, np.ndarray) and all(
        (mine.numpy() == other).all() for mine, other in zip(head.arrays(), same.arrays(), strict=True)
    )
    assert (same.to_vector437(vector[:, :25].numpy()) == vector.numpy()).all()
    assert torch.equal(head.to_vector437(vector[:, :25]), vector)


def test_the_pose_comes_back_out_of_camera_and_neck() -> None:
    pose, zeros = make_pose(4), torch.zeros(4, 3, dtype=torch.float64)
    head = HeadParams(zeros, zeros, zeros, zeros, zeros[:, None].expand(-1, 2, -1))
    again = FrameParameters.from_head_pose(pose, head, units_per_metre=3.0).head_pose(units_per_metre=3.0)
    assert torch.equal(again.rotation, pose.rotation)
    torch.testing.assert_close(again.translation, pose.translation, atol=1e-12, rtol=0)
