"""EG3D's training: what is learned from which pictures, in the terms of the project's one training loop.

Chan et al. 2022. A number of this file depends on the run's seed and a sample's place in the run alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import (
    EG3DLossConfig,
    Schedule,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from portrait4d.eg3d.training_pictures import DataConfig, TrainingPictures
from portrait4d.eg3d.training_samples import TrainingSamples
from portrait4d.eg3d.training_weights import load_start, save_networks
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.gan.swap import is_batch_swapped
from portrait4d.gan.training import GanTask, GanTraining
from portrait4d.runtime.random import derive_seed
from portrait4d.stylegan.half import set_half_dtype
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Part, Phase, Step, Terms
from portrait4d.weights.eg3d_config import EG3DConfig
from preprocess.media.contact_sheet import draw_contact_sheet
from preprocess.media.image import to_uint8

_GRID_COLUMNS, _GRID_ROWS = 6, 3
_GRID_BATCH = 3
_GRID_PX = 256


@dataclass(frozen=True, kw_only=True)
class EG3DTraining(GanTraining):
    """Everything that decides what an EG3D training does; the defaults are those of FFHQ at 512, rendered at 128.

    `resume_from` is an official file or a folder that a training wrote; they hold both networks.
    """

    generator: EG3DConfig = field(default_factory=EG3DConfig)
    """The network that makes heads."""

    loss: EG3DLossConfig = field(default_factory=EG3DLossConfig)
    """What both networks minimise."""

    data: DataConfig = field(default_factory=DataConfig)
    """The pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        generator, discriminator = self.generator, self.discriminator
        self.check_side(generator.superresolution.resolution)
        if discriminator.camera_axes != generator.camera_axes:
            raise InputError(
                f"expected discriminator.camera_axes {generator.camera_axes} as the generator has, got "
                f"{discriminator.camera_axes}"
            )
        if (generator.condition_dim, discriminator.condition_dim) != (25, 25):
            raise InputError("expected condition_dim 25, a camera label, for both networks")
        if discriminator.has_correspondence or discriminator.has_mask:
            raise InputError("expected a discriminator without correspondence and mask: EG3D makes no such pictures")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        start = () if self.resume_from is None else (Path(self.resume_from),)
        return (*map(Path, self.data.paths), *start)

    def make_task(self, device: torch.device) -> "EG3DTask":
        """Networks at their start, and the data.

        Raises:
            InputError: see `EG3DTask`.
        """
        del device  # the loop moves networks, and a part says where it is computed
        return EG3DTask(self)


class EG3DTask(GanTask):
    """Generator and discriminator, the four phases of a step, and the pictures they learn from.

    Args:
        config: of the training.
        pictures: to learn from; None reads the configuration's.

    Raises:
        InputError: the pictures or the weights to start from do not fit.
    """

    def __init__(self, config: EG3DTraining, *, pictures: TrainingPictures | None = None) -> None:
        self.config = config
        self.pictures = pictures or TrainingPictures(
            config.data, side=config.discriminator.resolution, axes=config.generator.camera_axes
        )
        config.check_enough(len(self.pictures))
        self.data_digest = self.pictures.digest
        self.samples = TrainingSamples(
            self.pictures,
            seed=config.train.seed,
            latent_dim=config.generator.latent_dim,
            num_threads=config.data.threads,
            capacity=3 * config.train.batch_size,  # this batch, the next, and what is just being read
        )
        self.generator, self.discriminator = self._make_networks()
        super().__init__(config, self.generator, self.generator.backbone.mapping, self.discriminator)
        loss = config.loss
        self.phases = [
            Phase("generator", "generator", self._generator_loss),
            Phase("density", "generator", self._density_loss, interval=loss.density_interval),
            Phase("discriminator", "discriminator", self._discriminator_loss),
            Phase("r1", "discriminator", self._r1_loss, interval=loss.r1_interval),
        ]
        self.grid_latents, self.grid_labels = self.samples.fixed(_GRID_COLUMNS * _GRID_ROWS)
        self.resolution = self._schedule(0).resolution

    def prefetch(self, positions: Sequence[int]) -> None:
        """See `Task`."""
        self.samples.prefetch(positions)

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        """See `Task`: the mean of w moves, and so does the side of the rendered picture."""
        self.move_mean_style(workers)
        schedule = self._schedule(step.images_seen)
        self.resolution = schedule.resolution
        return {
            "schedule/blur_sigma": schedule.blur_sigma,
            "schedule/swap_probability": schedule.swap_probability,
            "schedule/resolution": float(schedule.resolution),
        }

    def state(self) -> dict[str, Tensor]:
        """The fixed samples, so that pictures of a run compare, and the present side of the rendered picture."""
        return {
            "grid_latents": self.grid_latents,
            "grid_labels": self.grid_labels,
            "resolution": torch.tensor(self.resolution),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Task`."""
        self.grid_latents, self.grid_labels = state["grid_latents"], state["grid_labels"]
        self.resolution = int(state["resolution"])

    def save_weights(self, folder: Path, averages: Mapping[str, nn.Module]) -> None:
        """The averaged generator, and the discriminator in a folder of its own, from which a training can start."""
        generator = cast(EG3DGenerator, averages["generator"])
        save_networks(folder, generator, self.discriminator, resolution=self.resolution)

    @torch.no_grad()
    def draw_grid(self, averages: Mapping[str, nn.Module]) -> NDArray:
        """Heads of fixed codes from fixed cameras."""
        generator = cast(EG3DGenerator, averages["generator"])
        device = next(generator.parameters()).device
        images: list[NDArray] = []
        for latent, label in zip(
            self.grid_latents.to(device).split(_GRID_BATCH), self.grid_labels.to(device).split(_GRID_BATCH), strict=True
        ):
            camera = Camera.from_label25(label, axes=generator.config.camera_axes)
            seen = generator.render(generator.sample(latent, label), camera, neural_resolution=self.resolution)
            images += list(to_uint8(seen.image))
        rows = [images[start : start + _GRID_COLUMNS] for start in range(0, len(images), _GRID_COLUMNS)]
        return draw_contact_sheet(rows, cell_height=min(len(images[0]), _GRID_PX))

    def draw_codes(self, generator: nn.Module, latent: Tensor) -> Tensor:
        """See `GanTask`; all from the first camera of the grid."""
        generator = cast(EG3DGenerator, generator)
        label = self.grid_labels[:1].to(latent)
        camera = Camera.from_label25(label, axes=generator.config.camera_axes)
        seen = [
            generator.render(generator.sample(code, label), camera, neural_resolution=self.resolution).image_raw
            for code in latent.split(1)
        ]
        return torch.cat(seen)

    def describe(self) -> dict[str, Any]:
        """See `Task`."""
        return {
            "pictures": len(self.pictures),
            "pictures_digest": self.data_digest,
            "picture_side": self.config.discriminator.resolution,
            "parameters": {
                name: sum(parameter.numel() for parameter in network.parameters())
                for name, network in self.networks.items()
            },
        }

    # --- phases ---------------------------------------------------------------------------------

    def _generator_loss(self, part: Part) -> Terms:
        schedule = self._schedule(part.step.images_seen)
        wanted = self.samples.wanted(part, "generator")
        return generator_terms(
            self.generator, self.discriminator, wanted, schedule, random=part.random("generator noise")
        )

    def _density_loss(self, part: Part) -> Terms:
        probability = self._schedule(part.step.images_seen).swap_probability
        shared = part.step.shared_generator("density swap")
        return density_terms(
            self.generator,
            self.samples.wanted(part, "density"),
            self.config.loss,
            is_swapped=lambda: is_batch_swapped(probability, generator=shared),
            random=part.random("density noise"),
        )

    def _discriminator_loss(self, part: Part) -> Terms:
        schedule = self._schedule(part.step.images_seen)
        terms, w = discriminator_terms(
            self.generator,
            self.discriminator,
            self.samples.wanted(part, "discriminator"),
            self.samples.real(part),
            schedule,
            random=part.random("discriminator noise"),
        )
        self.note_styles(w)
        return terms

    def _r1_loss(self, part: Part) -> Terms:
        schedule = self._schedule(part.step.images_seen)
        return r1_terms(self.discriminator, self.samples.real(part), self.config.loss, schedule)

    def _schedule(self, images_seen: int) -> Schedule:
        return self.config.loss.at(images_seen, resolution=self.config.generator.neural_resolution)

    # --- networks -------------------------------------------------------------------------------

    def _make_networks(self) -> tuple[EG3DGenerator, DualDiscriminator]:
        with torch.random.fork_rng(devices=[]):  # modules draw from torch's own generator
            torch.manual_seed(derive_seed(self.config.train.seed, "weights"))
            generator = EG3DGenerator(self.config.generator)
            discriminator = DualDiscriminator(self.config.discriminator)
        for network in (generator, discriminator):
            set_half_dtype(network, self.config.train.half_dtype)
        if self.config.resume_from is not None:
            load_start(self.config.resume_from, generator, discriminator)
        return generator, discriminator
