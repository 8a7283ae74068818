"""What `lift` makes of toy faces of 64 px: the pictures are enlarged to 512 px for its tracker and shrunk again."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.headparts.head import UNITS_PER_METRE, PartHead
from portrait4d.headparts.masks import distance_map
from preprocess.media.image import to_uint8
from preprocess.media.shrink import shrink_square
from preprocess.tracking.tracker import TrackedFrame, Tracker

TRACKED_PX = 512


@dataclass(frozen=True)
class Lifted:
    """Results for N pairs.

    Attributes:
        pictures: uint8 `[N, S, S, 3]`; the copied source where no face was found.
        is_found: `[N]` whether both faces were found.
        depth: `[N, 1, h, h]` distance of the fitted driver's face along the rays, world units, zero elsewhere.
    """

    pictures: NDArray[np.uint8]
    is_found: NDArray[np.bool_]
    depth: torch.Tensor


def lift_pairs(sources: NDArray[np.uint8], drivers: NDArray[np.uint8], *, depth_px: int) -> Lifted:
    """Reenacts sources `[N, S, S, 3]` by one picture each, the copy of the truth, as in self-reenactment."""
    engine = LiftEngine()
    tracker = Tracker(head_model=engine.head_model)
    head = PartHead.from_open_head(origin=(0.0, 0.0, 0.0))
    pictures, found, depths = [], [], []
    for source, driver in zip(sources, drivers, strict=True):
        try:
            own, other = (tracker.track_image(_enlarged(picture)) for picture in (source, driver))
        except InputError:
            pictures.append(source)
            found.append(False)
            depths.append(torch.zeros(1, 1, depth_px, depth_px))
            continue
        pictures.append(_reenact(engine, own, other, side=len(source)))
        found.append(True)
        depths.append(_depth(head, other, size=depth_px))
    return Lifted(np.stack(pictures), np.array(found), torch.cat(depths))


def _reenact(engine: LiftEngine, source: TrackedFrame, driver: TrackedFrame, *, side: int) -> NDArray[np.uint8]:
    avatar = engine.build([source])
    options = RetargetOptions(mode="absolute", yaw_limit=None)
    drive = retarget(driver.motion, avatar, options, engine.head_model)
    shown = to_uint8(engine.render(avatar, drive).image)[0]
    whole = cv2.warpPerspective(shown, avatar.crop.inverse, (TRACKED_PX, TRACKED_PX), borderMode=cv2.BORDER_REPLICATE)
    return shrink_square(whole.astype(np.uint8), side)


def _depth(head: PartHead, frame: TrackedFrame, *, size: int) -> torch.Tensor:
    """Of the fitted head in the picture's own pixels."""
    motion = frame.motion
    camera = motion.camera()
    between = np.linalg.inv(motion.crop_matrix) @ np.diag([motion.crop_size, motion.crop_size, 1.0])
    change = np.diag([1 / TRACKED_PX, 1 / TRACKED_PX, 1.0]) @ between
    intrinsics = torch.from_numpy(change).to(camera.intrinsics) @ camera.intrinsics
    cam2world = camera.cam2world.clone()
    cam2world[:, :3, 3] *= UNITS_PER_METRE
    params = HeadParams(*(torch.from_numpy(value) for value in motion.head.arrays()))
    still = params.replace(neck=torch.zeros_like(params.neck))
    return distance_map(head, head.pose(still), Camera(cam2world, intrinsics), size=size)


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.resize(picture, (TRACKED_PX, TRACKED_PX), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
