"""Tracking: recovery of known heads, gaps, refusals, what a call may choose."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.groups import NUM_MESH, outer_eye_distance
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, find_faces
from preprocess.fitting.clip import MAX_BRIDGED_FRAMES, fit_clip
from preprocess.fitting.frames import HeadFitter, VideoFitter
from preprocess.media.video import Frame
from preprocess.tracking.smooth import smooth_motion
from preprocess.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return load_open_head()


@pytest.fixture(scope="module")
def fitter(head: OpenHead) -> HeadFitter:
    return HeadFitter(head)


@pytest.fixture(scope="module")
def tracker(head: OpenHead) -> Tracker:
    return Tracker(head_model=head)


PLAUSIBLE = (
    ("jawOpen", "mouthSmile"), ("mouthSmile", "eyeSquint"), ("eyeBlink",), ("browInnerUp", "browOuterUp"),
    ("mouthPucker", "browDown"), ("mouthFunnel", "jawOpen"), ("jawRight",), ("mouthFrown", "browInnerUp"),
    ("mouthUpperUp", "mouthLowerDown"), ("mouthLeft", "eyeWide"),
)  # fmt: skip


def _synthetic(head: OpenHead, seed: int, noise_px: float) -> tuple[HeadParams, np.ndarray, np.ndarray]:
    """Parameters, head rotation `[3]` and landmarks `[478, 3]` of a face that could be, seen by a perfect tracker."""
    random = np.random.default_rng(seed)
    params = HeadParams.zeros(head)
    for name in PLAUSIBLE[seed % len(PLAUSIBLE)]:
        strength = random.uniform(0.4, 0.9)
        for column, known in enumerate(head.expression_names):
            if known in (name, name + "Left", name + "Right"):
                params.expression[0, column] = strength
    params.shape[0, :60] = torch.from_numpy(random.normal(0, 0.6, 60))
    rotation = np.radians(random.uniform(-1, 1, 3) * [15, 25, 12])
    pose = torch.tensor([rotation.tolist(), [0.01, -0.1, -1.65]], dtype=torch.float32)
    camera = Camera.from_head_pose(pose[:1], pose[1:])
    pixels, depth = camera.project(head.landmarks(head(params)), height=512, width=512)
    depth = (depth - depth.mean()) / depth.mean() * float(camera.intrinsics[0, 0, 0]) * 512
    landmarks = torch.cat([pixels, depth[..., None]], -1)[0].numpy()
    return params, rotation, (landmarks + random.normal(0, noise_px, landmarks.shape)).astype(np.float32)


@pytest.mark.parametrize("noise_px", [0.0, 1.0])
def test_open_head_is_recovered(head: OpenHead, fitter: HeadFitter, noise_px: float) -> None:
    angles, agreement, known = [], [], []
    for seed in range(len(PLAUSIBLE)):
        params, rotation, landmarks = _synthetic(head, seed, noise_px)
        truth = params.expression[0].numpy()
        fit = fitter.fit([landmarks])[0]
        angles.append((Rotation.from_rotvec(fit.pose.rotation) * Rotation.from_rotvec(rotation).inv()).magnitude())
        agreement.append(np.corrcoef(fit.head.expression, truth)[0, 1])
        video = VideoFitter(fitter, params.shape[0].numpy())(landmarks)
        known.append(np.corrcoef(video.head.expression, truth)[0, 1])
    assert np.degrees(np.mean(angles)) < 1.0 and np.degrees(max(angles)) < 2.5
    assert np.mean(agreement) > 0.8 and np.mean(known) > 0.9


def test_mirrored_face_gives_mirrored_fit(head: OpenHead, fitter: HeadFitter) -> None:
    """Left and right are treated alike: a turned smile and its mirror image give swapped actions."""
    params, _, landmarks = _synthetic(head, 1, 0.0)
    still = params.replace(expression=torch.zeros_like(params.expression), shape=torch.zeros_like(params.shape))
    names = head.expression_names
    fits = []
    for side in ("Left", "Right"):
        smile = still.expression.clone()
        smile[0, names.index(f"mouthSmile{side}")] = 0.8
        yaw = torch.tensor([[0.0, 0.3 if side == "Left" else -0.3, 0.0]])
        camera = Camera.from_head_pose(yaw, torch.tensor([[0.0, -0.1, -1.65]]))
        points = head.landmarks(head(still.replace(expression=smile)))
        pixels, depth = camera.project(points, height=512, width=512)
        landmarks = torch.cat([pixels, (depth[..., None] - depth.mean()) * 1450], -1)[0].numpy()
        fits.append(fitter.fit([landmarks])[0])
    left = fits[0].head.expression[names.index("mouthSmileLeft")]
    right = fits[1].head.expression[names.index("mouthSmileRight")]
    assert left > 0.25 and abs(left - right) < 0.1
    np.testing.assert_allclose(fits[0].pose.rotation, fits[1].pose.rotation * [1, -1, -1], atol=np.radians(1))


def test_gaps_are_bridged_or_held(head: OpenHead, fitter: HeadFitter) -> None:
    _, _, start = _synthetic(head, 0, 0.0)
    seen = np.array([False] * 2 + [True] * 3 + [False] * MAX_BRIDGED_FRAMES + [True] + [False] * 9 + [True] + [False])
    landmarks = np.stack([start + np.array([4 * index, 0, 0], np.float32) for index in range(int(seen.sum()))])
    clip = fit_clip(fitter, landmarks, seen=seen, cuts=np.zeros(len(seen), bool))
    x = clip.pose.translation[:, 0]
    np.testing.assert_allclose(x[:2], x[2])  # before the first face
    bridged = x[4 : 4 + MAX_BRIDGED_FRAMES + 2]
    np.testing.assert_allclose(np.diff(bridged), (bridged[-1] - bridged[0]) / (MAX_BRIDGED_FRAMES + 1), rtol=1e-2)
    np.testing.assert_allclose(x[11:20], x[10])  # a long gap holds
    assert x[20] > x[19] and x[21] == x[20] and np.array_equal(clip.valid, seen)
    cuts = np.zeros(len(seen), bool)
    cuts[7] = True
    cut = fit_clip(fitter, landmarks, seen=seen, cuts=cuts)
    places = cut.pose.translation[:, 0]
    np.testing.assert_allclose(places[5:10], places[4])  # nothing is blended across a cut


def _frames(image: np.ndarray, count: int) -> list[Frame]:
    return [Frame(image, index / 25, index) for index in range(count)]


def test_no_face_is_one_clear_line(tracker: Tracker) -> None:
    blank = np.full((200, 200, 3), 128, np.uint8)
    for action in (
        lambda: tracker.track_image(blank),
        lambda: tracker.track_image(blank[:1, :1]),
        lambda: tracker.track_video(_frames(blank, 3), Fraction(25), source="blank.mp4"),
        lambda: tracker.track_video([], Fraction(25), source="nothing.mp4"),
    ):
        with pytest.raises(InputError, match="no face found") as error:
            action()
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()


def test_photo_and_still_clip_agree(tracker: Tracker, astronaut: np.ndarray) -> None:
    """A public-domain photo: a still clip of it does not move, and shows what the photo shows."""
    photo = tracker.track_image(astronaut)
    done: list[int] = []
    clip = tracker.track_video(_frames(astronaut, 6), Fraction(25), source="still", progress=done.append)
    assert done == [1, 2, 3, 4, 5, 6] and len(clip) == 6 and clip.valid.all() and clip.source == "still"
    assert photo.motion.fit_error[0] < 0.018
    angle = Rotation.from_rotvec(clip.rotation).inv() * Rotation.from_rotvec(photo.motion.rotation[0])
    assert np.degrees(angle.magnitude()).max() < 1
    assert np.degrees(np.abs(np.diff(clip.rotation, axis=0)).max()) < 0.3
    assert np.abs(np.diff(clip.expression, axis=0)).max() < 0.07
    smile = photo.motion.expression[0][tracker.head_model.expression_names.index("mouthSmileLeft")]
    assert smile > 0.2  # she smiles


def test_a_picture_gets_the_mean_of_several_runs(tracker: Tracker, astronaut: np.ndarray) -> None:
    """Whose accuracy is what tests/preprocess/test_track_accuracy.py and docs/results.md state."""
    expected = find_faces(astronaut, FaceDetector(), FaceLandmarker(), num_steps=3)[0]
    np.testing.assert_array_equal(tracker.track_image(astronaut).landmarks.points, expected.points)
    detector, landmarker = FaceDetector(), FaceLandmarker()
    runs = [landmarker(astronaut, find_faces(astronaut, detector, landmarker, num_steps=1)[0])]
    runs.append(landmarker(astronaut, runs[0]))
    np.testing.assert_allclose(expected.points, np.mean([run.points for run in runs], axis=0), atol=1e-3)


def test_camera_puts_the_model_on_the_photo(tracker: Tracker, astronaut: np.ndarray) -> None:
    tracked = tracker.track_image(astronaut)
    model = tracker.head_model
    vertices = model(tracked.motion.params(model, 0))
    pixels, _ = tracked.motion.camera(0).project(model.landmarks(vertices), height=512, width=512)
    distance = np.linalg.norm(pixels[0, :NUM_MESH].numpy() - tracked.motion.landmarks[0, :NUM_MESH, :2], axis=-1).mean()
    outer = outer_eye_distance(tracked.motion.landmarks[0])
    assert distance / outer == pytest.approx(float(tracked.motion.fit_error[0]), rel=0.02)
    np.testing.assert_allclose(tracked.crop.to_crop(tracked.landmarks.points), tracked.motion.landmarks[0], atol=1e-3)


def test_small_and_cut_faces_are_told(tracker: Tracker, astronaut: np.ndarray) -> None:
    import cv2

    photo, clip = tracker.track_image(astronaut).motion, tracker.track_video(_frames(astronaut, 2), Fraction(25))
    for warnings in (photo.warnings, clip.warnings):  # her face is 92 px wide
        assert [line.replace("93", "92") for line in warnings] == ["the face is only 92 px wide: expect a soft result"]
    assert tracker.track_image(cv2.resize(astronaut, (600, 600)).astype(np.uint8)).motion.warnings == ()
    with pytest.raises(InputError, match="24 px"):
        tracker.track_image(cv2.resize(astronaut, (80, 80), interpolation=cv2.INTER_AREA).astype(np.uint8))


def test_a_missing_face_number_is_refused(tracker: Tracker, astronaut: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least 4 faces"):
        tracker.track_image(astronaut, face=3)
    with pytest.raises(InputError, match="at least 2 faces"):
        tracker.track_video(_frames(astronaut, 2), Fraction(25), face=1)


@pytest.fixture(scope="module")
def pair(astronaut: np.ndarray) -> np.ndarray:
    """A picture `[512, 896, 3]` of two people: a large one at the left, a smaller one at the right."""
    import cv2

    smaller = np.zeros((512, 384, 3), np.uint8)
    smaller[:384] = cv2.resize(astronaut, (384, 384), interpolation=cv2.INTER_AREA)
    return np.concatenate([astronaut, smaller], 1)


def test_each_call_may_choose_another_face(tracker: Tracker, pair: np.ndarray) -> None:
    left, right = (tracker.track_image(pair, face=face).landmarks.points[1, 0] for face in (0, 1))
    assert left < 512 < right
    clip = tracker.track_video(_frames(pair, 2), Fraction(25), face=1)
    nose = clip.landmarks[:, 1, 0] / clip.crop_matrix[0, 0] - clip.crop_matrix[0, 2] / clip.crop_matrix[0, 0]
    np.testing.assert_allclose(nose, right, atol=3)
    with pytest.raises(InputError, match="0 or more"):
        tracker.track_image(pair, face=-1)


def test_each_call_may_choose_its_smoothing(tracker: Tracker, astronaut: np.ndarray) -> None:
    frames = [Frame(np.roll(astronaut, 3 * (index % 2), 1), index / 25, index) for index in range(6)]
    raw = tracker.track_video(frames, Fraction(25), smooth=0.0)
    smooth = tracker.track_video(frames, Fraction(25))
    np.testing.assert_array_equal(smooth.translation, smooth_motion(raw, predict=tracker.predict).translation)
    assert not np.array_equal(smooth.translation, raw.translation)
    with pytest.raises(InputError, match="0 or more"):
        tracker.track_video(frames, Fraction(25), smooth=-1.0)


def test_photos_of_one_person_share_the_identity(tracker: Tracker, astronaut: np.ndarray) -> None:
    """Each photo keeps its own crop and pose; a photo alone is what `track_image` says."""
    photos = [astronaut, np.ascontiguousarray(astronaut[:400, 60:420, ::-1]), np.ascontiguousarray(astronaut[:, ::-1])]
    alone = [tracker.track_image(photo) for photo in photos]
    together = tracker.track_images(photos)
    np.testing.assert_array_equal(tracker.track_images(photos[:1])[0].motion.shape, alone[0].motion.shape)
    assert np.abs(alone[0].motion.shape - alone[2].motion.shape).max() > 0.05
    for photo, tracked, single in zip(photos, together, alone, strict=True):
        np.testing.assert_array_equal(tracked.motion.shape, together[0].motion.shape)
        np.testing.assert_array_equal(tracked.crop.matrix, single.crop.matrix)
        assert tracked.image is photo and tracked.crop.image_size == photo.shape[:2] and len(tracked.motion) == 1
        np.testing.assert_array_equal(tracked.landmarks.points, single.landmarks.points)
        assert tracked.motion.fit_error[0] < 1.4 * single.motion.fit_error[0]
    with pytest.raises(InputError, match="no face found in picture 2"):
        tracker.track_images([astronaut, np.zeros((200, 200, 3), np.uint8)])
    with pytest.raises(InputError, match="at least one picture"):
        tracker.track_images([])
