"""Generator, discriminator, losses, regularisers and average in one training loop: the parts fit together."""

import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from flame.geometry.camera import Camera
from portrait4d.eg3d.generator import EG3DGenerator, GeneratedImages
from portrait4d.gan.adversarial import discriminator_loss, generator_loss, r1_penalty
from portrait4d.gan.blur import blur, blur_sigma
from portrait4d.gan.density import DensityVariationConfig, density_variation
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.gan.swap import swap_conditions, swap_probability
from portrait4d.ops.resample import resize
from portrait4d.render.field import TriPlaneField
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.average import AverageConfig, WeightAverage
from portrait4d.train.lazy import AdamSettings, LazyRegularisation
from portrait4d.weights.eg3d_config import EG3DConfig

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH, RAW = 2, 8
GENERATOR = EG3DConfig(
    latent_dim=8,
    style_dim=16,
    plane_resolution=16,
    plane_channels=4,
    channel_max=8,
    plane_layout="orthogonal",
    neural_resolution=RAW,
    render=RenderConfig(num_coarse=6, num_fine=6),
    superresolution=SuperResolutionConfig(kind="2X"),
)
DISCRIMINATOR = DualDiscriminatorConfig(resolution=128, channel_base=512, channel_max=8, num_mapping_layers=2)


class _Run:
    """A few steps of EG3D's training on pictures of coloured discs."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(5)
        self.random = torch.Generator().manual_seed(seed)
        self.generator, self.discriminator = EG3DGenerator(GENERATOR), DualDiscriminator(DISCRIMINATOR)
        self.average = WeightAverage(self.generator, AverageConfig(half_life_images=4.0, ramp_up=None))
        self.density_lazy, self.r1_lazy = LazyRegularisation(2), LazyRegularisation(2)
        self.generator_adam = self._adam(self.generator, self.density_lazy, 0.0025)
        self.discriminator_adam = self._adam(self.discriminator, self.r1_lazy, 0.002)
        self.losses: dict[str, list[float]] = {"generator": [], "discriminator": [], "density": [], "r1": []}

    def _adam(self, network: torch.nn.Module, lazy: LazyRegularisation, learning_rate: float) -> Adam:
        settings = lazy.correct(AdamSettings(learning_rate, (0.0, 0.99)))
        return Adam(network.parameters(), lr=settings.learning_rate, betas=settings.betas)

    def _labels(self) -> Tensor:
        yaw = (torch.rand(BATCH, generator=self.random) - 0.5) * 0.6
        cam2world = torch.eye(4).repeat(BATCH, 1, 1)
        cam2world[:, 0, 0] = cam2world[:, 2, 2] = yaw.cos()
        cam2world[:, 0, 2], cam2world[:, 2, 0] = yaw.sin(), -yaw.sin()
        cam2world[:, :3, 3] = 2.7 * cam2world[:, :3, 2]
        intrinsics = torch.tensor([[4.26, 0.0, 0.5], [0.0, 4.26, 0.5], [0.0, 0.0, 1.0]]).expand(BATCH, 3, 3)
        return Camera(cam2world, intrinsics).to_label25(axes="opencv")

    def _real(self, sigma: float) -> JudgedImages:
        axis = torch.linspace(-1, 1, 128)
        disc = (axis[:, None] ** 2 + axis[None, :] ** 2 < 0.4).float()
        image = disc * torch.rand(BATCH, 3, 1, 1, generator=self.random) * 2 - 1
        return JudgedImages(blur(image, sigma), blur(resize(image, height=RAW, width=RAW), sigma))

    def _fake(self, labels: Tensor, num_images: int) -> GeneratedImages:
        latent = torch.randn(BATCH, GENERATOR.latent_dim, generator=self.random)
        swapped = swap_conditions(labels, labels.roll(1, 0), swap_probability(num_images), generator=self.random)
        volume = self.generator.sample(latent, swapped)
        return self.generator.render(volume, Camera.from_label25(labels, axes="opencv"), generator=self.random)

    def _take(self, name: str, optimiser: Adam, loss: Tensor, gain: float = 1.0) -> None:
        optimiser.zero_grad()
        (loss * gain).backward()
        optimiser.step()
        self.losses[name].append(loss.item())

    def _variation(self, labels: Tensor) -> Tensor:
        latent = torch.randn(BATCH, GENERATOR.latent_dim, generator=self.random)
        volume = self.generator.sample(latent, labels)
        return density_variation(
            TriPlaneField(volume.planes, self.generator.decoder),
            batch=BATCH,
            box_warp=GENERATOR.render.box_warp,
            generator=self.random,
            config=DensityVariationConfig(num_points=100),
            like=latent,
        )

    def step(self, index: int) -> None:
        num_images = index * BATCH
        sigma = blur_sigma(num_images, initial_sigma=2.0, fade_images=4)
        labels, real_labels = self._labels(), self._labels()
        fake = self._fake(labels, num_images)
        judged = JudgedImages(blur(fake.image, sigma), fake.image_raw)
        self._take("generator", self.generator_adam, generator_loss(self.discriminator(judged, labels)))
        if self.density_lazy.is_due(index):
            loss = 0.25 * self._variation(labels)
            self._take("density", self.generator_adam, loss, self.density_lazy.gain)
        real, detached = self._real(sigma), JudgedImages(judged.image.detach(), judged.image_raw.detach())
        loss = discriminator_loss(self.discriminator(real, real_labels), self.discriminator(detached, labels))
        self._take("discriminator", self.discriminator_adam, loss)
        if self.r1_lazy.is_due(index):
            loss = r1_penalty(self.discriminator, real, real_labels).mean()
            self._take("r1", self.discriminator_adam, loss, self.r1_lazy.gain)
        self.average.update(self.generator, num_images=num_images, batch_size=BATCH)


def _trained(seed: int, steps: int = 3) -> _Run:
    run = _Run(seed)
    for index in range(steps):
        run.step(index)
    return run


@pytest.fixture(scope="module")
def run() -> _Run:
    return _trained(0)


def test_losses_are_finite_and_all_parameters_move(run: _Run) -> None:
    assert {name: len(values) for name, values in run.losses.items()} == {
        "generator": 3,
        "discriminator": 3,
        "density": 2,
        "r1": 2,
    }
    assert all(0 < value < 1e3 for values in run.losses.values() for value in values)
    start = _Run(0)
    unmoved = [
        name
        for before, after in ((start.generator, run.generator), (start.discriminator, run.discriminator))
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if torch.equal(old, new)
    ]
    # super-resolution runs without noise, so its strength has nothing to learn
    assert unmoved == [
        f"superresolution.block{block}.conv{layer}.noise_strength" for block in (0, 1) for layer in (0, 1)
    ]


def test_average_follows(run: _Run) -> None:
    """Half-life two steps: after three, the start counts 2^-1.5."""
    name = "backbone.synthesis.b4.const"
    weights = [dict(_trained(0, steps).generator.named_parameters())[name] for steps in range(3)]
    weights.append(run.generator.get_parameter(name))
    expected = weights[0]
    for value in weights[1:]:
        expected = value + 2**-0.5 * (expected - value)
    assert run.average.network.get_parameter(name).allclose(expected, atol=1e-6)
    assert not run.average.network.get_parameter(name).allclose(weights[-1], atol=1e-4)


@pytest.mark.slow
def test_equal_generators_train_equal_networks(run: _Run) -> None:
    again, other = _trained(0), _trained(1)
    assert again.losses == run.losses and other.losses != run.losses
    for first, second in zip(run.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.equal(first, second)
