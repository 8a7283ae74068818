"""The neutral frame of a driver: little expression, open eyes, the usual pose. Relative motion counts from it."""

import numpy as np
import torch

from preprocess.tracking.motion_fields import MotionFields, NeutralFrame


def neutral_of(motion: MotionFields) -> NeutralFrame:
    """The state that the motion is counted from: the one that it holds, or else that of its neutral frame.

    The opening of the open eyes of a tracked clip is the 0.8 quantile over the tracked frames.
    """
    if motion.neutral is not None:
        return motion.neutral
    index = find_neutral(motion)
    seen = np.asarray(motion.valid) if np.any(motion.valid) else np.ones(len(motion), bool)
    opened = torch.quantile(torch.from_numpy(motion.eye_open[seen]).float(), 0.8, dim=0)
    return NeutralFrame(
        expression=motion.expression[index],
        rotation=motion.rotation[index],
        translation=motion.translation[index],
        landmarks=motion.landmarks[index],
        eye_open=opened.numpy(),
    )


def find_neutral(motion: MotionFields) -> int:
    """Index of the driver's neutral frame: little expression, open eyes, near its usual pose, tracked if any is."""
    expression = _float(motion.expression)
    typical = expression.median(0).values
    activity = expression.abs().sum(-1) + 0.5 * (expression - typical).abs().sum(-1)
    turn = (_float(motion.rotation) - _float(motion.rotation).median(0).values).norm(dim=-1)
    eyes = _float(motion.eye_open).mean(-1)
    shut = (eyes.median() - eyes).clamp(min=0) / eyes.median().clamp(min=1e-4)
    cost = activity / activity.median().clamp(min=1e-3) + 3 * turn + 4 * shut
    valid = torch.from_numpy(np.asarray(motion.valid))
    if valid.any():
        cost[~valid] = torch.inf
    return int(cost.argmin())


def _float(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
