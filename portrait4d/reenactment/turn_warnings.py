"""Warnings about heads that turn further than the photo shows."""

from collections.abc import Sequence

import numpy as np
import torch

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel
from portrait4d.engines.base import Avatar
from portrait4d.engines.retarget import reference_of
from portrait4d.engines.retarget_options import RetargetOptions
from portrait4d.engines.turns import USUAL_LIMIT_DEGREES, follow_turn, turned_beyond
from preprocess.tracking.motion import Motion

SHORTEST_SECONDS = 0.1


def driver_turn_warnings(motion: Motion, avatar: Avatar, options: RetargetOptions, model: HeadModel) -> list[str]:
    """Returns a warning if the driver would turn the avatar's head beyond the limit, and for how many seconds.

    Args:
        motion: the driver.
        avatar: the target.
        options: with the limit; without one, the usual limit counts.
        model: the head model that both were tracked with.

    Raises:
        InputError: the motion was tracked with another head model.
    """
    motion.check_model(model)
    driver = axis_angle_to_matrix(torch.from_numpy(np.asarray(motion.rotation)))
    own = axis_angle_to_matrix(torch.from_numpy(np.asarray(avatar.motion.rotation[0])))
    is_absolute = options.mode == "absolute" or len(motion) == 1
    origin = own if is_absolute else reference_of(motion, options, model).rotation
    limit = USUAL_LIMIT_DEGREES if options.yaw_limit is None else options.yaw_limit
    beyond = turned_beyond(follow_turn(driver, origin, own, scale=options.pose_scale), own, limit)
    seconds = beyond.num_frames / float(motion.frame_rate)
    if seconds < SHORTEST_SECONDS and not (len(motion) == 1 and beyond.num_frames):
        return []
    turned = (
        f"the driver turns the head up to {beyond.largest_degrees:.0f} degrees, beyond {limit:g} for {seconds:.1f} s"
    )
    if options.yaw_limit is None:
        return [f"{turned}: the photo does not show that side, expect smears"]
    return [f"{turned}: it is shown less far there (--yaw-limit none lifts the limit)"]


def view_warnings(yaw_degrees: Sequence[float] | np.ndarray, pitch_degrees: Sequence[float] | np.ndarray) -> list[str]:
    """Returns a warning if views lie further from the front than a photo shows."""
    sides = np.abs(np.concatenate([np.asarray(yaw_degrees, float), np.asarray(pitch_degrees, float)]))
    num_beyond = int((sides > USUAL_LIMIT_DEGREES).sum())
    if not num_beyond:
        return []
    return [
        f"views up to {sides.max():.0f} degrees from the front: beyond {USUAL_LIMIT_DEGREES:g} the photo does not show "
        "what is to be drawn, expect smears"
    ]
