"""Drawn frames, as a page gets them."""

import cv2

from portrait4d.live.worker import Answer
from portrait4d.studio.messages import FRAME

JPEG_QUALITY = 88


def frame_message(answer: Answer) -> bytes:
    """Encodes a drawn frame, see `FRAME`."""
    swapped = cv2.cvtColor(answer.image, cv2.COLOR_RGB2BGR)  # four times as fast as numpy's view of it
    is_encoded, jpeg = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert is_encoded
    return FRAME.pack(answer.request.stamp, answer.is_lost + 2 * answer.is_turned) + jpeg.tobytes()
