"""Stages and scores of training data, on real pictures where the reference material is there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.flame import load_flame
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from flame.landmarks.groups import CONTOUR
from flame.landmarks.ibug import to_68, to_70
from flame_tensors import put_landmarks_on_the_face
from generated_weights import generated
from places import shared_folder
from preprocess.dataset.building.limits import Limits
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.quality import measure
from preprocess.dataset.building.stage_options import StageOptions
from preprocess.dataset.building.stages import Stages
from preprocess.dataset.formats.lmdb_format import record_to_vector437
from preprocess.dataset.records.record_codec import check_record
from preprocess.faces.aligned_crop import crop_from_five
from preprocess.faces.crop import Crop
from preprocess.media.image import to_tensor
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.motion_code.network import MotionEncoderNetwork

DATA = shared_folder() / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the reference photos beside the checkout")
GOOD = {"face_px": 200.0, "fit_error": 0.01, "occlusion": 0.0, "yaw_degrees": 0.0, "pitch_degrees": 0.0,
        "sharpness": 100.0, "eye_open": 0.3, "outside": 0.1}  # fmt: skip


def _square_face(low: float, high: float) -> np.ndarray:
    """Landmarks whose outline is a square (corners in order, repeated)."""
    landmarks = np.full((478, 3), (low + high) / 2)
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    landmarks[list(CONTOUR), :2] = corners[np.arange(len(CONTOUR)) * 4 // len(CONTOUR)]
    return landmarks


def test_occlusion_is_the_share_of_the_face_without_person_or_picture() -> None:
    image, landmarks = np.zeros((512, 512, 3), np.uint8), _square_face(156, 356)
    mask = np.full((512, 512), 255, np.uint8)
    whole = Crop.from_square((256, 256), 512, image_size=(512, 512))
    cut = Crop.from_square((156, 256), 512, image_size=(512, 512))  # the source's left border at x = 100 of the picture
    far = Crop.from_square((0, 256), 512, image_size=(512, 512))  # and at x = 256: half of the face

    def occlusion(mask: np.ndarray, crop: Crop) -> float:
        return measure(image, mask, landmarks, crop=crop, rotation=np.zeros(3))["occlusion"]

    assert occlusion(mask, whole) == pytest.approx(0, abs=0.01)
    assert occlusion(mask, cut) == pytest.approx(0, abs=0.01)
    assert occlusion(mask, far) == pytest.approx(0.5, abs=0.01)
    for crop, share in ((whole, 0.0), (cut, 100 / 512), (far, 0.5)):
        assert measure(image, mask, landmarks, crop=crop, rotation=np.zeros(3))["outside"] == pytest.approx(share)
    mask[:206] = 0
    assert occlusion(mask, whole) == pytest.approx(0.25, abs=0.01)


def test_angles_and_sharpness() -> None:
    landmarks, mask = _square_face(156, 356), np.full((512, 512), 255, np.uint8)
    crop = Crop.from_square((512, 512), 1024, image_size=(1024, 1024))
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 1)).repeat(3, 2).astype(np.uint8)
    sharp = measure(noise, mask, landmarks, crop=crop, rotation=np.array([0.0, 0.5, 0.0]))
    flat = measure(np.full_like(noise, 90), mask, landmarks, crop=crop, rotation=np.array([0.3, 0.0, 0.0]))
    assert sharp["yaw_degrees"] == pytest.approx(np.degrees(0.5)) and sharp["face_px"] == pytest.approx(400)
    assert flat["pitch_degrees"] == pytest.approx(-np.degrees(0.3))
    assert flat["sharpness"] == 0 and sharp["sharpness"] > 1000


def test_the_nose_goes_where_yaw_and_pitch_say() -> None:
    """Axes of the camera: a head turned by +y points its nose (+z) to the viewer's right (+x); by +x, down."""
    nose = torch.tensor([[[0.0, 0.0, 0.1]]])
    place = torch.tensor([[0.0, 0.0, -1.5]])
    right = Camera.from_head_pose(torch.tensor([[0.0, 0.5, 0.0]]), place).project(nose, height=512, width=512)[0]
    down = Camera.from_head_pose(torch.tensor([[0.3, 0.0, 0.0]]), place).project(nose, height=512, width=512)[0]
    assert right[0, 0, 0] > 260 and down[0, 0, 1] > 260


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("face_px", 40.0, "the face is 40 px wide, at least 80"),
        ("fit_error", 0.2, "fit error 0.200, at most 0.08"),
        ("occlusion", 0.5, "0.50 of the face is hidden or outside, at most 0.15"),
        ("yaw_degrees", -80.0, "yaw 80 degrees, at most 75"),
        ("pitch_degrees", 60.0, "pitch 60 degrees, at most 50"),
        ("sharpness", 1.0, "sharpness 1.0, at least 4"),
        ("outside", 1.01, "1.01 of the picture is beyond the source, at most 1"),
    ],
)
def test_a_limit_says_the_number_and_itself(name: str, value: float, text: str) -> None:
    assert Limits().fault(GOOD) is None
    assert text in str(Limits().fault({**GOOD, name: value}))


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_limits_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"expected max yaw degrees of 0 or more, got (nan|-1)"):
        Limits(max_yaw_degrees=value)


def test_closed_eyes_are_rejected_only_if_asked() -> None:
    closed = {**GOOD, "eye_open": 0.05}
    assert Limits().fault(closed) is None
    assert "eyes 0.05 open" in str(Limits(min_eye_open=0.1).fault(closed))


def test_the_eg3d_crop_has_the_scale_of_its_specification() -> None:
    """The template at 300 px a unit in a picture of 1024 px, whose middle 700 px become 512."""
    template = np.array(
        [[-0.31148657, 0.09036078], [0.30979887, 0.08972035], [0.0032535, -0.24617933], [-0.25216928, -0.5813392],
         [0.2484662, -0.5812824]]
    )  # fmt: skip
    points = np.array([512, 512]) + 300 * template * [1, -1]
    crop = crop_from_five(points, image_size=(1024, 1024), alignment="eg3d")
    assert crop.scale == pytest.approx(512 / 700, rel=1e-6)
    np.testing.assert_allclose(
        crop.to_crop(np.array([[162.0, 162.0], [862.0, 862.0]])), [[0, 0], [512, 512]], atol=1e-6
    )
    ours = crop_from_five(points, image_size=(1024, 1024))
    assert ours.scale == pytest.approx(180 / 300, rel=1e-6)


@pytest.fixture(scope="module")
def stages() -> Stages:
    return Stages(StageOptions())


@needs_data
def test_the_label_projects_the_head_onto_the_landmarks(stages: Stages) -> None:
    """Camera around the resting head, in metres x 3 about the neck joint, as the record promises."""
    outcome = stages(DATA / "sources/s03_podium.jpg", Item("00", "s03_podium.jpg"))
    (record,) = outcome.records
    head = load_open_head()
    params = record.head.map(lambda part: torch.from_numpy(part[None])).replace(neck=torch.zeros(1, 3))
    assert head.joint_template[1].abs().max() < 1e-6
    points = 3 * head.landmarks(head(params))
    camera = Camera.from_label25(torch.from_numpy(record.camera[None]), axes="opengl")
    pixels = camera.project(points, height=512, width=512)[0][0].numpy()
    valid = head.landmark_embedding(478).valid.numpy()
    assert np.median(np.linalg.norm(pixels - record.landmarks[:, :2], axis=1)[valid]) < 4
    assert record.image.shape == (512, 512, 3) and record.mask[300, 256] > 200 and record.mask[5, 5] < 60


@needs_data
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("noface_cat.jpg", "no face"), ("tiny_face.jpg", "px wide"), ("half_face_cut.jpg", "hidden or outside"),
        ("nearly_black.png", "sharpness"), ("truncated.jpg", "damaged"), ("text.jpg", "not a picture"),
    ],
)  # fmt: skip
def test_bad_photos_are_rejected_for_the_right_reason(stages: Stages, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        stages(DATA / "negatives" / name, Item("00", name))


@pytest.mark.slow
@needs_data
def test_a_clip_has_one_identity_and_calm_crops() -> None:
    stages = Stages(StageOptions("clip", num_frames=12, every=2))
    records = stages(DATA / "drivers/d01_green_smile.mp4", Item("00", "d01.mp4")).records
    assert [record.key for record in records] == [f"00-{frame:06d}" for frame in range(0, 24, 2)]
    assert all((record.shape == records[0].shape).all() for record in records)
    corners = np.array([record.crop_matrix[:2, 2] for record in records])
    assert np.abs(np.diff(corners, axis=0)).max() < 6


@needs_data
def test_time_jumps_where_frames_show_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(StageOptions("clip", num_frames=8, every=2, min_frames=1))
    path = DATA / "drivers/d01_green_smile.mp4"
    seen = stages._follow(path)
    kept = [0, 1, 4, 5, 6]
    indices, faces, seconds = ([part[index] for index in kept] for part in seen[:3])
    monkeypatch.setattr(stages, "_follow", lambda path: (indices, faces, seconds, *seen[3:]))
    fit, jumps = stages._fit, []
    monkeypatch.setattr(stages, "_fit", lambda landmarks, cuts: (jumps.append(cuts), fit(landmarks, cuts))[1])
    stages(path, Item("00", path.name))
    assert [cuts.tolist() for cuts in jumps] == [[False, False, True, False, False]]


def test_a_flame_file_and_a_motion_encoder_shape_the_record(
    shared: Path, synthetic_flame: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(synthetic_flame, tmp_path / "flame")
    put_landmarks_on_the_face(folder)
    path = folder / "geometry" / "generic_model.pkl"
    torch.save(generated(MotionEncoderNetwork(), shared, prefix="motion_encoder."), tmp_path / "motion_model.pth")
    options = StageOptions(head_model=str(path), motion_codes=str(tmp_path / "motion_model.pth"))
    (record,) = Stages(options)(shared / "data/pairs/B1.jpg", Item("00", "B1.jpg")).records
    check_record(record, options.info)
    assert record.code.shape == (548,) and record.code.std() > 0.1 and options.info.head_model == "flame"
    centres = torch.from_numpy(to_68(record.landmarks[:, :2]) - 0.5)[None]  # records count from the corner
    code = MotionEncoder.load(tmp_path / "motion_model.pth")(to_tensor(record.image), centres)[0].numpy()
    np.testing.assert_allclose(record.code, code, atol=1e-5)
    flame = load_flame(path)
    params = HeadParams.from_vector437(torch.from_numpy(record_to_vector437(record))[None])
    at_rest = params.replace(neck=torch.zeros_like(params.neck))
    camera = Camera.from_label25(torch.from_numpy(record.camera[None]), axes="opengl")
    points = 3 * flame.landmarks(flame(at_rest), count=70)
    pixels = camera.project(points, height=512, width=512)[0][0].numpy()
    wanted = to_70(record.landmarks[:, :2])
    inner = slice(17, 70)  # the contour slides
    assert np.median(np.linalg.norm(pixels - wanted, axis=1)[inner]) < 12


@needs_data
def test_damage_of_a_clip_is_remarked() -> None:
    stages = Stages(StageOptions("clip", num_frames=400, every=8, min_frames=1))
    outcome = stages(DATA / "negatives/cut_faststart.mp4", Item("00", "cut_faststart.mp4"))
    assert any("cut_faststart.mp4 is cut off or damaged" in remark for remark in outcome.remarks), outcome.remarks
