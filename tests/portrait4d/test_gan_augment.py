"""Pictures, cameras and heads go through one augmentation together, and its strength follows the discriminator."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadParams
from portrait4d.gan.adversarial import r1_gradients, r1_penalty
from portrait4d.gan.augment import Augmentation, AugmentConfig, draw_augmentation, mirror_heads, recolour
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.gan.strength import AdaptiveStrength, AdaptiveStrengthConfig
from portrait4d.gan.warp import mirror_camera, move_camera, warp
from portrait4d.runtime.random import PerSample
from portrait4d.train.distributed import Workers
from preprocess.dataset.reading.flip import HeadMirror, mirror_label

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = AugmentConfig(
    mirror=0, rotation_degrees=0, zoom_octaves=0, whole_shift=0, shift=0, brightness=0, contrast_octaves=0,
    saturation_octaves=0,
)  # fmt: skip
GEOMETRY = AugmentConfig(brightness=0, contrast_octaves=0, saturation_octaves=0)
TRANSFORMS = {
    "mirror": {"mirror": 1.0},
    "rotation": {"rotation_degrees": 25.0},
    "zoom": {"zoom_octaves": 0.3},
    "whole shift": {"whole_shift": 0.15},
    "shift": {"shift": 0.08},
    "all": {"mirror": 0.5, "rotation_degrees": 25.0, "zoom_octaves": 0.2, "whole_shift": 0.05, "shift": 0.05},
}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


def _matrices(batch: int, *, seed: int = 0) -> Tensor:
    """Rotations with a zoom and a shift, that leave the picture in some places."""
    return torch.eye(2, 3, dtype=torch.float64) + 0.3 * _draw(batch, 2, 3, seed=seed)


def _images(batch: int, *, side: int = 16, raw_side: int = 8) -> JudgedImages:
    image, raw = _draw(batch, 3, side, side), _draw(batch, 3, raw_side, raw_side, seed=1)
    return JudgedImages(image, raw, _draw(batch, 3, side, side, seed=2), _draw(batch, 1, raw_side, raw_side, seed=3))


def _cameras(batch: int) -> Camera:
    """Cameras around the origin, each rolled, with intrinsics of all kinds."""
    rotation = axis_angle_to_matrix(0.3 * _draw(batch, 3, seed=5))
    cam2world = torch.eye(4, dtype=torch.float64).repeat(batch, 1, 1)
    cam2world[:, :3, :3] = rotation
    cam2world[:, :3, 3] = 2.7 * rotation[:, :, 2] + 0.02 * _draw(batch, 3, seed=6)
    intrinsics = torch.tensor([[3.1, 0.05, 0.53], [0.0, 2.9, 0.46], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Camera(cam2world, intrinsics.repeat(batch, 1, 1))


def _drawn(batch: int, config: AugmentConfig, *, strength: float = 1.0, seed: int = 0, side: int = 40) -> Augmentation:
    source = PerSample([1000 * seed + index for index in range(batch)])
    like = torch.zeros(1, dtype=torch.float64)
    return draw_augmentation(batch, strength=strength, side=side, generator=source, like=like, config=config)


# --- warp -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_warp_is_grid_sample(dtype: torch.dtype) -> None:
    picture, matrix = _draw(5, 3, 12, 20).to(dtype), (2 * _matrices(5)).to(dtype)
    corners = torch.tensor([[2.0, 0, -1], [0, 2, -1], [0, 0, 1]], dtype=dtype)  # shares to [-1, 1]
    square = torch.cat([matrix, torch.tensor([[[0.0, 0, 1]]], dtype=dtype).expand(5, 1, 3)], 1)
    grid = F.affine_grid((corners @ square @ corners.inverse())[:, :2], [5, 3, 12, 20], align_corners=False)
    expected = F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert (warp(picture, matrix) - expected).abs().max() < tolerance
    assert warp(picture, square).equal(warp(picture, matrix))
    assert (matrix.abs().amax((1, 2)) > 1).all()  # the reflection is seen


def test_warp_by_whole_pixels_is_exact() -> None:
    picture = _draw(2, 3, 8, 8).float()
    still = torch.eye(2, 3).repeat(2, 1, 1)
    assert warp(picture, still).equal(picture)
    still[:, 0, 2] = 2 / 8
    assert warp(picture, still)[..., :6].equal(picture[..., 2:])
    assert warp(picture, still)[..., 6:].equal(picture[..., 6:].flip(3))
    mirror = torch.tensor([[-1.0, 0, 1], [0, 1, 0]]).repeat(2, 1, 1)
    assert warp(picture, mirror).equal(picture.flip(3))


def test_warp_differentiates_twice() -> None:
    picture, matrix = _draw(1, 2, 3, 3).requires_grad_(), _matrices(1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(warp, (picture, matrix))
    assert torch.autograd.gradgradcheck(warp, (picture, matrix))


def test_warp_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[2, 2, 3\] or \[2, 3, 3\], got \[1, 2, 3\]"):
        warp(torch.zeros(2, 1, 4, 4), torch.zeros(1, 2, 3))


# --- camera and head ------------------------------------------------------------------------------


def _blobs(pixels: Tensor, *, side: int, radius: float) -> Tensor:
    """A Gaussian blob in a channel of its own around each of `[B, N, 2]`: `[B, N, H, W]`."""
    centre = torch.arange(side, dtype=pixels.dtype) + 0.5
    x, y = centre - pixels[..., :1, None], centre[:, None] - pixels[..., 1:, None]
    return torch.exp(-(x.square() + y.square()) / (2 * radius**2))


def _centres(blobs: Tensor) -> Tensor:
    centre = torch.arange(blobs.shape[-1], dtype=blobs.dtype) + 0.5
    mass = blobs.sum((2, 3))
    return torch.stack([(blobs * centre).sum((2, 3)), (blobs * centre[:, None]).sum((2, 3))], -1) / mass[..., None]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_moved_camera_sees_the_moved_picture(name: str) -> None:
    batch, points = 12, torch.tensor([[[0.05, 0.04, 0.03], [-0.06, 0.02, 0.0], [0.01, -0.07, -0.04]]]).double()
    camera = _cameras(batch)
    augmentation = _drawn(batch, dataclasses.replace(STILL, **TRANSFORMS[name]))
    pictures = {
        part: _blobs(camera.project(points, height=side, width=side)[0], side=side, radius=side / 40)
        for part, side in (("image", 80), ("image_raw", 40))
    }
    moved = augmentation.of_images(JudgedImages(**pictures)).parts()
    seen = augmentation.of_camera(camera)
    # a mirrored picture shows the mirrored points
    signs = torch.ones(batch, 1, 3, dtype=torch.float64)
    signs[augmentation.is_mirrored, :, 0] = -1
    for part, side in (("image", 80), ("image_raw", 40)):
        expected, depth = seen.project(points * signs, height=side, width=side)
        assert (depth > 0).all()
        assert (expected > 5).all() and (expected < side - 5).all()  # no blob is cut
        assert (_centres(moved[part]) - expected).norm(dim=-1).max() < 0.1
        assert (_centres(pictures[part]) - expected).norm(dim=-1).max() > 1  # something moved
    rotation = seen.cam2world[:, :3, :3]
    eye = torch.eye(3, dtype=torch.float64).expand(batch, 3, 3)
    assert torch.allclose(rotation @ rotation.transpose(1, 2), eye, atol=1e-12)
    assert (torch.linalg.det(rotation) > 0).all()
    assert (seen.intrinsics.diagonal(dim1=1, dim2=2) > 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_only_what_a_transform_stands_for_changes_in_the_camera(name: str) -> None:
    """In square pixels: roll for a rotation, focal length for a zoom, principal point for a shift."""
    camera = _cameras(6)
    square = torch.tensor([[3.0, 0, 0.5], [0, 3.0, 0.5], [0, 0, 1]], dtype=torch.float64).repeat(6, 1, 1)
    camera = Camera(camera.cam2world, square)
    augmentation = _drawn(6, dataclasses.replace(STILL, **TRANSFORMS[name]))
    seen = augmentation.of_camera(camera)
    turned = (seen.cam2world - camera.cam2world).abs().amax((1, 2)) > 1e-9
    changed = (seen.intrinsics - square).abs().amax(0) > 1e-9
    focal, centre = torch.eye(3).bool() & (torch.arange(3) < 2), torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    if name in ("mirror", "rotation"):
        assert turned.all() and not changed.any()
    elif name == "zoom":
        assert not turned.any() and changed.equal(focal)
        assert torch.allclose(seen.intrinsics[:, 0, 0], seen.intrinsics[:, 1, 1])
    elif name in ("shift", "whole shift"):
        assert not turned.any() and changed.equal(centre)
    else:
        assert turned.any() and changed.equal(focal | centre)
    if name == "whole shift":
        steps = 40 * (seen.intrinsics[:, :2, 2] - 0.5)
        assert torch.allclose(steps, steps.round()) and steps.any()


def test_clockwise_is_clockwise() -> None:
    """A point above the centre goes to the right."""
    quarter = torch.tensor([[[0.0, -1, 1], [1, 0, 0]]], dtype=torch.float64)  # (u, v) to (1 - v, u)
    camera = Camera(_cameras(1).cam2world, torch.tensor([[[3.0, 0, 0.5], [0, 3, 0.5], [0, 0, 1]]]).double())
    moved = move_camera(camera, quarter)
    points = _draw(1, 7, 3, seed=9) * 0.05
    before, after = (each.project(points, height=1, width=1)[0] for each in (camera, moved))
    assert torch.allclose(after, torch.stack([1 - before[..., 1], before[..., 0]], -1), atol=1e-12)


def test_mirrored_cameras_are_those_of_mirrored_records() -> None:
    camera = _cameras(4)
    chosen = torch.tensor([True, False, True, True])
    found = mirror_camera(camera, chosen)
    for axes in ("opengl", "opencv"):
        label = camera.to_label25(axes=axes)
        expected = torch.where(chosen[:, None], torch.from_numpy(mirror_label(label.numpy())), label)
        assert torch.allclose(found.to_label25(axes=axes), expected, atol=1e-15)


def test_mirrored_heads_are_those_of_mirrored_records() -> None:
    mirror = HeadMirror(np.diag([1, -1, 1]).astype(np.float32), np.eye(4, dtype=np.float32)[::-1].copy(), 0.0)
    head = HeadParams(_draw(3, 3), _draw(3, 4), _draw(3, 3, seed=1), _draw(3, 3, seed=2), _draw(3, 2, 3, seed=3))
    chosen = torch.tensor([True, False, True])
    found = mirror_heads(head, mirror, chosen)
    for index, is_mirrored in enumerate(chosen.tolist()):
        one = head.map(lambda values, index=index: values[index].numpy())
        expected = mirror.mirrored(one) if is_mirrored else one
        for ours, theirs in zip(found.arrays(), expected.arrays(), strict=True):
            assert np.allclose(ours[index].numpy(), theirs)
    always = _drawn(3, dataclasses.replace(STILL, mirror=1.0))
    assert always.is_mirrored.all()
    assert always.of_head(head, mirror).shape.equal(mirror_heads(head, mirror, torch.ones(3).bool()).shape)


def test_a_mirrored_correspondence_map_names_the_other_side() -> None:
    images = _images(6)
    assert images.correspondence is not None and images.mask is not None
    augmentation = _drawn(6, dataclasses.replace(STILL, mirror=0.5))
    assert 0 < augmentation.is_mirrored.sum() < 6
    found = augmentation.of_images(images)
    assert found.correspondence is not None and found.mask is not None
    for index, is_mirrored in enumerate(augmentation.is_mirrored.tolist()):
        flip = (lambda value: value.flip(-1)) if is_mirrored else (lambda value: value)
        assert found.image[index].equal(flip(images.image[index]))
        assert found.image_raw[index].equal(flip(images.image_raw[index]))
        assert found.mask[index].equal(flip(images.mask[index]))
        x, y, z = flip(images.correspondence[index])
        assert found.correspondence[index].equal(torch.stack([-x if is_mirrored else x, y, z]))


# --- colour ---------------------------------------------------------------------------------------


def _one_colour(**strengths: float) -> Tensor:
    augmentation = _drawn(8, dataclasses.replace(STILL, **strengths))
    assert augmentation.colour is not None and not augmentation.moves
    return augmentation.colour


def test_each_colour_transform_changes_what_it_is_named_for() -> None:
    picture = _draw(8, 3, 4, 4)
    mean, spread = lambda x: x.mean(1, keepdim=True), lambda x: x - x.mean(1, keepdim=True)
    brighter = recolour(picture, _one_colour(brightness=0.2)) - picture
    assert torch.allclose(brighter, brighter[:, :1, :1, :1].expand_as(brighter)) and brighter.std() > 0.05
    ratio = recolour(picture, _one_colour(contrast_octaves=0.5)) / picture
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio)) and (ratio > 0).all() and ratio.std() > 0.05
    saturated = recolour(picture, _one_colour(saturation_octaves=0.5))
    assert torch.allclose(mean(saturated), mean(picture))
    ratio = spread(saturated) / spread(picture)
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio)) and (ratio > 0).all() and ratio.std() > 0.05
    hued = recolour(picture, _one_colour(hue_degrees=90))
    assert torch.allclose(mean(hued), mean(picture))
    assert torch.allclose(spread(hued).norm(dim=1), spread(picture).norm(dim=1))
    assert not torch.allclose(hued, picture)


def test_a_third_of_a_turn_of_the_hue_swaps_the_channels() -> None:
    draws = PerSample([0])
    draws.uniform = lambda shape, like: torch.zeros(shape, dtype=like.dtype)  # the largest turn, backwards
    config = dataclasses.replace(STILL, hue_degrees=120)
    like = torch.zeros(1, dtype=torch.float64)
    drawn = draw_augmentation(1, strength=1.0, side=8, generator=draws, like=like, config=config)
    assert drawn.colour is not None
    picture = _draw(1, 3, 2, 2)
    assert torch.allclose(recolour(picture, drawn.colour), picture.roll(-1, 1))


def test_colours_of_maps_and_masks_stay() -> None:
    images = _images(4)
    found = _drawn(4, dataclasses.replace(STILL, brightness=0.3)).of_images(images)
    assert found.correspondence is images.correspondence and found.mask is images.mask
    assert not found.image.equal(images.image) and not found.image_raw.equal(images.image_raw)


# --- what is drawn --------------------------------------------------------------------------------


def test_strength_0_changes_no_byte() -> None:
    images, camera = _images(3), _cameras(3)
    for config, strength in ((AugmentConfig(), 0.0), (STILL, 1.0)):
        augmentation = _drawn(3, config, strength=strength)
        assert augmentation.of_camera(camera) is camera
        for ours, theirs in zip(augmentation.of_images(images).parts().values(), images.parts().values(), strict=True):
            assert ours.numpy().tobytes() == theirs.numpy().tobytes()


def test_samples_that_draw_nothing_keep_their_values() -> None:
    images, camera = _images(200, side=8, raw_side=4), _cameras(200)
    augmentation = _drawn(200, AugmentConfig(hue_degrees=30), strength=0.05)
    assert augmentation.colour is not None
    eye, still = torch.eye(2).double(), torch.eye(3, 4).double()
    kept = (
        ~augmentation.is_mirrored
        & (augmentation.linear == eye).all(2).all(1)
        & (augmentation.shift == 0).all(1)
        & (augmentation.colour == still).all(2).all(1)
    )
    assert 100 < kept.sum() < 180  # 0.95^8 * 0.975 = 65 %
    found, seen = augmentation.of_images(images), augmentation.of_camera(camera)
    for ours, theirs in zip(found.parts().values(), images.parts().values(), strict=True):
        assert ours[kept].equal(theirs[kept])
        assert not ours[~kept].equal(theirs[~kept])
    assert torch.allclose(seen.cam2world[kept], camera.cam2world[kept], atol=1e-15)
    assert torch.allclose(seen.intrinsics[kept], camera.intrinsics[kept], atol=1e-15)


def test_strength_is_the_probability_of_each_transform() -> None:
    drawn = draw_augmentation(4000, strength=0.3, side=8, generator=_seeded(), like=torch.zeros(1))
    assert float(drawn.is_mirrored.float().mean()) == pytest.approx(0.15, abs=0.03)
    zoom = torch.linalg.det(drawn.linear)
    assert float((zoom - 1).abs().gt(1e-5).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(drawn.linear[:, 0, 1].ne(0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(zoom.log2().div(2).std()) == pytest.approx(0.2 * math.sqrt(0.3), abs=0.01)
    assert torch.allclose(drawn.linear @ drawn.inverse, torch.eye(2).expand(4000, 2, 2), atol=1e-5)


def test_a_split_batch_draws_the_same() -> None:
    images, camera = _images(4), _cameras(4)
    whole = _drawn(4, AugmentConfig())
    found, seen = whole.of_images(images), whole.of_camera(camera)
    for index in range(4):
        one = draw_augmentation(
            1, strength=1.0, side=40, generator=PerSample([index]), like=torch.zeros(1, dtype=torch.float64)
        )
        part = JudgedImages(**{name: value[index : index + 1] for name, value in images.parts().items()})
        for name, value in one.of_images(part).parts().items():
            assert torch.allclose(value[0], found.parts()[name][index], atol=1e-12)
        assert torch.allclose(one.of_camera(camera[index]).cam2world[0], seen.cam2world[index], atol=1e-12)


def test_one_transform_does_not_change_what_another_draws() -> None:
    few, many = _drawn(5, dataclasses.replace(STILL, zoom_octaves=0.2)), _drawn(5, AugmentConfig(rotation_degrees=0))
    assert torch.allclose(few.linear, many.linear)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="augment.rotation_degrees"):
        AugmentConfig(rotation_degrees=200)
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\], got 1.5"):
        _drawn(1, AugmentConfig(), strength=1.5)
    with pytest.raises(ValueError, match="expected 2 images as drawn, got 3"):
        _drawn(2, AugmentConfig()).of_images(_images(3))
    with pytest.raises(ValueError, match="expected 2 cameras as drawn, got 3"):
        _drawn(2, AugmentConfig()).of_camera(_cameras(3))


# --- R1 -------------------------------------------------------------------------------------------


def test_r1_through_the_augmentation_differentiates_twice() -> None:
    images, camera, augmentation = _images(2, side=8, raw_side=4), _cameras(2), _drawn(2, AugmentConfig(), side=4)
    taps = {name: _draw(*value.shape[1:], seed=7) for name, value in images.parts().items()}

    def penalty(scale: Tensor) -> Tensor:
        def judge(images: JudgedImages, condition: Camera | Tensor) -> Tensor:
            assert isinstance(condition, Camera)
            seen, parts = augmentation.of_camera(condition), augmentation.of_images(images).parts()
            terms = [torch.tanh(scale * value * taps[name]).sum((1, 2, 3)) for name, value in parts.items()]
            return torch.stack(terms).sum(0)[:, None] * seen.intrinsics[:, 0, 0, None]

        return r1_penalty(judge, images, camera)

    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert penalty(scale).isfinite().all() and (penalty(scale) > 0).all()
    assert torch.autograd.gradcheck(penalty, scale)


def test_r1_of_a_discriminator_of_heads_is_finite_through_the_augmentation() -> None:
    torch.manual_seed(0)
    config = DualDiscriminatorConfig(
        resolution=8, has_correspondence=True, has_mask=True, channel_base=16, channel_max=4, num_mapping_layers=1,
        group_size=2,
    )  # fmt: skip
    network = DualDiscriminator(config).double()
    images, camera, augmentation = _images(4, side=8, raw_side=4), _cameras(4), _drawn(4, AugmentConfig(), side=4)
    seen = augmentation.of_camera(camera)
    penalty = r1_penalty(lambda images, _: network(augmentation.of_images(images), seen), images, camera)
    assert penalty.shape == (4,) and penalty.isfinite().all() and (penalty > 0).all()
    assert not torch.allclose(penalty, r1_penalty(network, images, camera))
    gradient = torch.autograd.grad(penalty.sum(), network.get_parameter("b8.fromrgb.weight"))[0]
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_r1_gradients_through_the_augmentation_are_finite_differences() -> None:
    images, camera, augmentation = _images(2, side=8, raw_side=4), _cameras(2), _drawn(2, AugmentConfig(), side=4)

    def judge(images: JudgedImages, condition: Camera | Tensor) -> Tensor:
        del condition
        parts = augmentation.of_images(images).parts().values()
        return torch.stack([value.square().sum((1, 2, 3)) for value in parts]).sum(0)[:, None]

    step = 1e-6
    for name, gradient in r1_gradients(judge, images, camera).items():
        value = images.parts()[name]
        direction = _draw(*value.shape, seed=11)
        plus, minus = (
            judge(dataclasses.replace(images, **{name: value + sign * step * direction}), camera).sum()
            for sign in (1, -1)
        )
        expected = (plus - minus) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(float(expected), rel=1e-6)


# --- adaptive strength ----------------------------------------------------------------------------


def _run(strength: AdaptiveStrength, mean_sign: float, steps: int, *, batch: int = 10) -> None:
    positive = round((mean_sign + 1) / 2 * batch)
    logits = torch.tensor([3.0] * positive + [-0.1] * (batch - positive))[:, None]
    for _ in range(steps):
        strength.note(logits)
        strength.finish(batch_size=batch)


def test_strength_goes_from_0_to_1_in_its_images() -> None:
    strength = AdaptiveStrength(AdaptiveStrengthConfig(adaptation_images=1000))
    _run(strength, 0.8, 50)  # 48 of 50 steps of 10 images are whole intervals
    assert strength.value == pytest.approx(0.48)
    assert strength.mean_sign == pytest.approx(0.8)
    _run(strength, 0.8, 50)
    assert strength.value == pytest.approx(1.0)
    _run(strength, 0.8, 40)
    assert strength.value == 1.0
    _run(strength, 0.4, 20)
    assert strength.value == pytest.approx(0.8)
    _run(strength, -1.0, 200)
    assert strength.value == 0.0


def test_strength_rests_at_the_target_and_below_its_maximum() -> None:
    strength = AdaptiveStrength(
        AdaptiveStrengthConfig(target=0.5, adaptation_images=100, initial=0.1, maximum=0.3, interval=1)
    )
    _run(strength, 0.5, 10, batch=4)
    assert strength.value == 0.1
    _run(strength, 1.0, 10, batch=4)
    assert strength.value == 0.3


def test_strength_of_a_split_batch_and_of_a_resumed_run_is_the_same() -> None:
    config = AdaptiveStrengthConfig(adaptation_images=200, interval=3)
    logits = [_draw(8, 1, seed=seed) + 1.3 for seed in range(20)]
    whole, split = AdaptiveStrength(config), AdaptiveStrength(config)
    for index, step in enumerate(logits):
        whole.note(step)
        statistics = whole.finish(batch_size=8)
        assert bool(statistics) == (index % 3 == 2)
        for part in step.split([1, 3, 4]):
            split.note(part)
        assert split.finish(batch_size=8, workers=Workers()) == statistics
        resumed = AdaptiveStrength(config)
        resumed.load_state(split.state())
        split = resumed
    assert split.value == whole.value > 0


def test_all_logits_of_an_interval_count_alike() -> None:
    strength = AdaptiveStrength(AdaptiveStrengthConfig(interval=2))
    strength.note(torch.ones(6, 1))
    assert strength.finish(batch_size=6) == {}
    strength.note(torch.tensor([[-1.0], [-1.0]]))
    assert strength.finish(batch_size=2) == {"augment/strength": 0.0, "augment/real_sign": 0.5}
    strength.note(torch.ones(2, 1))
    strength.finish(batch_size=2)
    strength.note(torch.ones(2, 1))
    statistics = strength.finish(batch_size=2)
    assert statistics == {"augment/strength": pytest.approx(4 / 500_000), "augment/real_sign": 1.0}


def test_strength_without_logits_stays() -> None:
    strength = AdaptiveStrength(AdaptiveStrengthConfig(initial=0.2, interval=1))
    assert strength.finish(batch_size=8) == {}
    assert strength.value == 0.2 and math.isnan(strength.mean_sign)
    with pytest.raises(InputError, match="augment.initial"):
        AdaptiveStrengthConfig(initial=0.5, maximum=0.4)
