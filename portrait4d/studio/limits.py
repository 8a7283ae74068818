"""What a page may ask for at most, so that no page, tab or stranger fills the memory or the disk."""

MEGABYTE = 1_000_000

PHOTO_BYTES, CLIP_BYTES, MOTION_BYTES = 40 * MEGABYTE, 400 * MEGABYTE, 60 * MEGABYTE

MOTION_INFLATED_BYTES = 400 * MEGABYTE
"""What a motion file may hold once it is unpacked."""

PHOTO_PIXELS, CLIP_PIXELS = 50_000_000, 3840 * 2160
"""Of a photo, and of one frame of a clip."""

CLIP_SECONDS, RECORD_SECONDS = 120.0, 120.0

CAMERA_BYTES, CAMERA_PIXELS = 2 * MEGABYTE, 1920 * 1080
"""Of one picture of the camera."""

TEXT_CHARACTERS = 100_000
"""Of one message of the page; the longest is a full line of keyframes."""

LARGEST_NUMBER = 1e15
"""Of any number in a message: milliseconds of 30,000 years."""

NUM_SESSIONS = 8
"""Tabs at once."""

NUM_CONNECTIONS = 64
"""Connections of all kinds at once."""
