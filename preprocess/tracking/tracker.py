"""Tracks one face through a picture or a clip and fits the head model to it: from pixels to head motion."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from flame.landmarks.ibug import to_68
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.faces.crop import DEFAULT_CROP_SIZE, Crop, face_crop
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, FaceLandmarks, find_faces
from preprocess.fitting.clip import MAX_BRIDGED_FRAMES, ClipFit, fit_clip, fit_photos
from preprocess.fitting.frames import HeadFitter
from preprocess.media.image import to_tensor
from preprocess.media.video import Frame
from preprocess.tracking.follow import FaceFollower, bounding_box, choose_face
from preprocess.tracking.followed_clip import BLOCK, follow_clip
from preprocess.tracking.live import RATE, LiveTracker
from preprocess.tracking.motion import Motion
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.motion_fields import head_fields
from preprocess.tracking.picture_warnings import clip_warnings, face_warnings, photo_warnings, stranger_warnings
from preprocess.tracking.smooth import smooth_motion


@dataclass(frozen=True)
class TrackedFrame:
    """One tracked picture.

    Attributes:
        image: uint8 `[H, W, 3]` RGB, as given.
        motion: the motion of T = 1 frames.
        crop: maps image px to crop px.
        landmarks: in image px.
    """

    image: NDArray[np.uint8]
    motion: Motion
    crop: Crop
    landmarks: FaceLandmarks


class Tracker:
    """Tracks pictures and clips; it holds the networks and the head model, and no state between calls."""

    def __init__(
        self,
        device: str | torch.device = "cpu",
        head_model: HeadModel | None = None,
        *,
        motion_encoder: MotionEncoder | None = None,
    ) -> None:
        """Loads the face networks and the head model.

        Args:
            device: where the face networks run; the fit runs on the CPU.
            head_model: the head model to fit, the open head by default.
            motion_encoder: computes motion codes for the engines that need them; None: no codes.
        """
        self._encoder = motion_encoder
        # tolerances and motion files are in metres; the parameters of a scaled model keep their meaning
        self.head_model = (head_model if head_model is not None else load_open_head()).in_metres()
        self._detector, self._landmarker = FaceDetector(device), FaceLandmarker(device)
        self._fitter = HeadFitter(self.head_model, crop_size=DEFAULT_CROP_SIZE)

    def track_image(self, image: NDArray[np.uint8], *, face: int = 0) -> TrackedFrame:
        """Tracks one picture, uint8 `[H, W, 3]` RGB.

        Raises:
            InputError: no face, too small a face, or no face of the requested number.
        """
        return self.track_images([image], face=face)[0]

    def track_images(self, images: Sequence[NDArray[np.uint8]], *, face: int = 0) -> list[TrackedFrame]:
        """Tracks pictures of one person: all get the same identity, each its own crop and pose.

        Args:
            images: uint8 `[H, W, 3]` RGB each, of any sizes.
            face: which face of every picture, 0 = the largest, 1 = the second largest, ...

        Raises:
            InputError: there is no picture, or `track_image` would raise for one of them.
        """
        if not images:
            raise InputError("expected at least one picture of the person, got none: give one")
        _check_choices(face, 0.0)
        names = ["the picture"] if len(images) == 1 else [f"picture {index + 1}" for index in range(len(images))]
        found = [self._find_faces(image, name) for image, name in zip(images, names, strict=True)]
        chosen = [choose_face(faces, face, place=name) for faces, name in zip(found, names, strict=True)]
        for one, image in zip(chosen, images, strict=True):
            face_warnings(one.points[None], image.shape[:2])  # refuses what is too small before the fit
        crops = [
            face_crop(one.points, image_size=image.shape[:2], is_inside=True)
            for one, image in zip(chosen, images, strict=True)
        ]
        points = [crop.to_crop(one.points) for crop, one in zip(crops, chosen, strict=True)]
        fits = fit_photos(self._fitter, points)
        strangers = self._stranger_warnings(fits, points, names)
        frames = []
        for image, fit, crop, faces, one in zip(images, fits, crops, found, chosen, strict=True):
            roll = float(matrix_to_euler_degrees(axis_angle_to_matrix(torch.from_numpy(fit.pose.rotation)))[2][0])
            lines = [*photo_warnings(image, faces, one, roll_degrees=roll, face=face), *strangers]
            motion = self._motion(fit, crop, np.zeros(1), Fraction(25), source="", warnings=lines)
            motion = dataclasses.replace(motion, codes=_fill_codes([self._code(image, one)]))
            frames.append(TrackedFrame(image, motion, crop, one))
        return frames

    def _stranger_warnings(
        self, fits: Sequence[ClipFit], points: Sequence[NDArray[np.float32]], names: Sequence[str]
    ) -> list[str]:
        """Warnings about photos of different people, by a fit of each of `points` [478, 3] (crop px) alone."""
        if len(fits) < 2:
            return []
        alone = [float(fit_photos(self._fitter, [one])[0].fit_error[0]) for one in points]
        return stranger_warnings([float(fit.fit_error[0]) for fit in fits], alone, names)

    def _code(self, image: NDArray[np.uint8], face: FaceLandmarks | None) -> NDArray[np.float32] | None:
        """Returns the motion code `[548]` of a picture; None without a face or an encoder."""
        if self._encoder is None or face is None:
            return None
        crop = portrait_crop(face.points, image_size=(image.shape[0], image.shape[1]))
        points = to_68(crop.to_crop(face.points[:, :2])) - 0.5  # the encoder counts from pixel centres
        code = self._encoder(to_tensor(crop.apply(image)), torch.from_numpy(points.astype(np.float32))[None])
        return code[0].cpu().numpy()

    def _find_faces(self, image: NDArray[np.uint8], name: str) -> list[FaceLandmarks]:
        faces = find_faces(image, self._detector, self._landmarker)
        if faces:
            return faces
        turned = np.ascontiguousarray(image[::-1, ::-1])
        if find_faces(turned, self._detector, self._landmarker, num_steps=1):
            raise InputError(f"no face found in {name} as it is, but upside down: turn it by 180 degrees")
        raise InputError(_no_face(name))

    def track_video(
        self,
        frames: Iterable[Frame],
        frame_rate: Fraction,
        *,
        source: str = "",
        progress: Callable[[int], None] | None = None,
        face: int = 0,
        smooth: float = 1.0,
    ) -> Motion:
        """Tracks a clip; it keeps one frame in memory at a time.

        Args:
            frames: as of `preprocess.media.video.read_frames`.
            frame_rate: frames per second.
            source: name of the clip, for messages and the motion file.
            progress: called with the number of frames done.
            face: which face of the first frame that shows one to follow, 0 = the largest.
            smooth: factor on the tolerances of `smooth_motion`; 0 = off.

        Raises:
            InputError: no face in any frame, too small a face, or no face of the requested number in the first frame
                with a face.
        """
        _check_choices(face, smooth)
        follower = FaceFollower(self._detector, self._landmarker, face=face)
        followed = follow_clip(frames, follower, encode=self._code, progress=progress)
        seen, found = followed.seen, followed.landmarks
        if not seen.any():
            raise InputError(_no_face(source or "the clip"))
        crop = face_crop(found, image_size=followed.image_size, is_inside=True)
        warnings = clip_warnings(followed, float(frame_rate), face=face)
        gap = _longest_gap(seen)
        if gap > MAX_BRIDGED_FRAMES:
            warnings.append(f"no face in {int((~seen).sum())} of {len(seen)} frames: the last pose is held there")
        for start in range(0, len(found), BLOCK):  # in place: a second copy of a long clip would be large
            found[start : start + BLOCK] = crop.to_crop(found[start : start + BLOCK])
        clip = fit_clip(self._fitter, found, seen=seen, cuts=followed.cuts)
        motion = self._motion(clip, crop, followed.seconds, frame_rate, source=source, warnings=warnings)
        motion = dataclasses.replace(motion, codes=_fill_codes(followed.codes))
        return smooth_motion(motion, smooth=smooth, predict=self.predict)

    def face_boxes(self, image: NDArray[np.uint8]) -> list[list[float]]:
        """Returns the faces of a picture, the largest first: x0, y0, x1, y1 as shares of its width and height."""
        height, width = image.shape[:2]
        faces = find_faces(image, self._detector, self._landmarker)
        return [(bounding_box(face.points) / [width, height, width, height]).tolist() for face in faces]

    def live(self, *, face: int = 0) -> LiveTracker:
        """Returns a tracker of pictures as they come.

        Args:
            face: which face of the first picture that shows one to follow, 0 = the largest.
        """
        _check_choices(face, 0.0)

        def to_motion(fit: ClipFit, crop: Crop, seconds: NDArray[np.float64]) -> Motion:
            return self._motion(fit, crop, seconds, RATE, source="", warnings=())

        follower = FaceFollower(self._detector, self._landmarker, face=face)
        return LiveTracker(follower, self._fitter, to_motion=to_motion, encode=self._code)

    def _motion(
        self,
        clip: ClipFit,
        crop: Crop,
        seconds: NDArray[np.float64],
        frame_rate: Fraction,
        *,
        source: str,
        warnings: Sequence[str],
    ) -> Motion:
        return Motion(
            **head_fields(clip.pose, clip.head),
            head_model=self.head_model.name,
            frame_rate=frame_rate,
            seconds=seconds,
            landmarks=clip.landmarks,
            valid=clip.valid,
            eye_open=clip.eye_open,
            fit_error=clip.fit_error,
            crop_matrix=crop.matrix,
            crop_size=crop.size,
            frame_height=crop.image_size[0],
            frame_width=crop.image_size[1],
            source=source,
            warnings=tuple(warnings),
        )

    def predict(self, motion: Motion) -> NDArray[np.float32]:
        """Returns the fitted model's landmarks `[T, 478, 2]`, crop px."""
        pose, head = motion.pose, motion.head
        frames = [self._fitter.project(pose.row(index), head.row(index)) for index in range(len(motion))]
        return np.stack(frames).astype(np.float32)


def _fill_codes(codes: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Returns codes `[T, C]`; frames without one repeat the code before them, the first ones that after them."""
    known = [index for index, code in enumerate(codes) if code is not None]
    if not known:
        return np.zeros((len(codes), 0), np.float32)
    held = np.clip(np.searchsorted(known, np.arange(len(codes)), side="right") - 1, 0, None)
    return np.stack([codes[known[index]] for index in held]).astype(np.float32)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _check_choices(face: int, smooth: float) -> None:
    if not (smooth >= 0 and face >= 0):
        raise InputError(f"expected smooth and face of 0 or more, got {smooth} and {face}")


def _no_face(name: str) -> str:
    return f"no face found in {name}: expected a clearly visible human face, use a clearer or closer picture of one"


def _longest_gap(seen: NDArray[np.bool_]) -> int:
    """Returns the length of the longest run of frames without a face."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (~seen).astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
