"""An avatar and what drives it from frame to frame: a tracked person, the neutral pose they held, a hand."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from portrait4d.engines.base import Avatar, Drive, check_avatar
from portrait4d.engines.retarget import Reference, reference_of, retarget_frames
from portrait4d.engines.retarget_options import RetargetOptions
from portrait4d.live.by_hand import ByHand, move_by_hand, still_drive
from portrait4d.reenactment.head_crops import render_drive
from portrait4d.reenactment.models import Models
from preprocess.tracking.motion import Motion
from preprocess.tracking.stacked import stack_motions

STOPPED_SHARE = 0.95
"""Share of the yaw limit from which a turn counts as stopped: it bends smoothly and never reaches the limit."""

NEUTRAL_FRAMES = 10
"""Tracked frames among which the neutral one is looked for when the person holds it."""


class Puppet:
    """One avatar, driven live. `track`, `new_driver` and `hold_neutral` are called from one thread, the rest from any.

    Attributes:
        options: how motion is retargeted; may be set at any time.
    """

    def __init__(self, avatar: Avatar, models: Models, options: RetargetOptions, *, face: int = 0) -> None:
        """Takes an avatar.

        Args:
            avatar: of the engine in `models`.
            models: engine and tracker.
            options: mode, limits and scales.
            face: which face of the driver's first picture to follow, 0 = the largest.

        Raises:
            InputError: the avatar is of another engine.
        """
        check_avatar(avatar, engine=models.engine)
        avatar.motion.check_model(models.head_model)
        self.avatar, self.options = avatar, options
        self._models, self._face = models, face
        self._still = still_drive(avatar, models.head_model)
        self._recent: deque[Motion] = deque(maxlen=NEUTRAL_FRAMES)
        self._reference: tuple[str, Motion, Reference] | None = None
        self.new_driver()

    def new_driver(self) -> None:
        """Forgets the person who drove; the first picture of the next one is their neutral one until they hold it."""
        self._tracker = self._models.tracker.live(face=self._face)
        self._recent.clear()
        self._neutral: Motion | None = None

    def track(self, image: NDArray[np.uint8], seconds: float) -> Motion | None:
        """Tracks a picture uint8 `[H, W, 3]` RGB, taken at `seconds`; None where the person is not seen."""
        motion = self._tracker(image, seconds)
        if motion is not None:
            if self._recent and not np.array_equal(self._recent[-1].crop_matrix, motion.crop_matrix):
                self._recent.clear()  # another camera: places do not compare
            self._recent.append(motion)
            if self._neutral is None or not np.array_equal(self._neutral.crop_matrix, motion.crop_matrix):
                self._neutral = motion
        return motion

    def hold_neutral(self) -> bool:
        """Takes the last tracked frames as the driver's neutral pose and face; returns whether there are any."""
        if not self._recent:
            return False
        self._tracker.hold_still()
        self._neutral = stack_motions(list(self._recent))
        return True

    def drive(self, motion: Motion | None, by_hand: ByHand, *, neutral: Motion | None = None) -> Drive:
        """What the avatar does in one frame, see `drive_and_turn`."""
        return self.drive_and_turn(motion, by_hand, neutral=neutral)[0]

    def drive_and_turn(
        self, motion: Motion | None, by_hand: ByHand, *, neutral: Motion | None = None
    ) -> tuple[Drive, bool]:
        """What the avatar does in one frame, and whether its driver is turned so far that it stops at the limit.

        Args:
            motion: tracked, T = 1; None for the avatar's own face and pose.
            by_hand: added to it.
            neutral: the clip whose neutral frame counts, in place of what the driver held.

        Raises:
            InputError: the head model lacks an expression that is set by hand, or the motion is of another head model.
        """
        with torch.inference_mode():
            if motion is None:
                drive, is_turned = self._still, False
            else:
                options = self.options  # once: another thread may set it
                drive = self._retarget(motion, neutral, options)
                is_turned = _stops_at_limit(drive, options)
            return move_by_hand(drive, by_hand, self.avatar, self._models.head_model), is_turned

    def _retarget(self, motion: Motion, neutral: Motion | None, options: RetargetOptions) -> Drive:
        model = self._models.head_model
        held = neutral if neutral is not None else self._neutral
        held = motion if held is None else held
        known = self._reference  # once: an export takes another one meanwhile
        if known is None or known[0] != options.mode or known[1] is not held:
            held.check_model(model)
            known = self._reference = (options.mode, held, reference_of(held, options, model))
        return retarget_frames(motion, self.avatar.motion, options, model, known[2])

    def draw(self, drive: Drive) -> NDArray[np.uint8]:
        """Draws one frame, uint8 `[S, S, 3]` RGB."""
        return render_drive(self.avatar, drive, models=self._models)[0]


def _stops_at_limit(drive: Drive, options: RetargetOptions) -> bool:
    if options.yaw_limit is None:
        return False
    yaw, _, _ = matrix_to_euler_degrees(axis_angle_to_matrix(drive.pose.rotation[0]))
    return abs(float(yaw)) > STOPPED_SHARE * options.yaw_limit
