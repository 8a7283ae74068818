"""A head of the free portrait that is driven live, and pictures in which it moves in known ways."""

from functools import cache

import cv2
import numpy as np
import skimage.data

from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.live.puppet import Puppet
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.models import Models
from preprocess.tracking.tracker import Tracker


@cache
def free_models() -> Models:
    engine = LiftEngine()
    return Models(engine, Tracker(head_model=engine.head_model))


@cache
def free_avatar():
    """The avatar of the NASA portrait in scikit-image."""
    models = free_models()
    return models.engine.build([models.tracker.track_image(portrait())])


def free_puppet(**options: object) -> Puppet:
    return Puppet(free_avatar(), free_models(), ReenactOptions(engine="lift", **options))  # pyright: ignore[reportArgumentType]


def portrait() -> np.ndarray:
    return skimage.data.astronaut()


def rolled(degrees: float) -> np.ndarray:
    """The portrait turned in its plane about the face, > 0 clockwise as the viewer sees it."""
    matrix = cv2.getRotationMatrix2D((220.0, 120.0), -degrees, 1.0)
    return cv2.warpAffine(portrait(), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
