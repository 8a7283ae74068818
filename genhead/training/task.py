"""GenHead's training: what is learned from which pictures, in the terms of the project's one training loop.

Portrait4D (Deng et al. 2024), section 3.1. A number of this file depends on the run's seed and a sample's place in the
run alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flame.errors import InputError
from flame.geometry.camera import Camera
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator
from genhead.training.grid import GridSamples, draw_codes, draw_grid
from genhead.training.heads import HeadDataConfig, TrainingHeads
from genhead.training.losses import GenHeadLossConfig
from genhead.training.phases import GenHeadPhases
from genhead.training.samples import HeadSamples
from genhead.training.sides import check_sides
from genhead.training.supervised import SupervisedConfig
from genhead.training.weights import brief_names, load_start, make_part_head, save_networks
from portrait4d.gan.augment import Augmentation, AugmentConfig, draw_augmentation
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.gan.strength import AdaptiveStrength, AdaptiveStrengthConfig
from portrait4d.gan.training import GanTask, GanTraining
from portrait4d.headparts.head import PartHead
from portrait4d.runtime.random import derive_seed
from portrait4d.stylegan.half import set_half_dtype
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Part, Step
from preprocess.dataset.reading.flip import HeadMirror, open_head_mirror


@dataclass(frozen=True, kw_only=True)
class GenHeadTraining(GanTraining):
    """Everything that decides what a GenHead training does; the defaults are those of FFHQ at 512.

    `resume_from` is a GenHead that was trained or released, or an EG3D generator, whose backbone, decoder and
    super-resolution are taken where they fit.
    """

    flame: str | None = None
    """FLAME file (.pkl, .npz) with its companions beside it, for generator.head flame."""

    generator: GenHeadConfig = field(default_factory=GenHeadConfig)
    """The network that makes heads."""

    discriminator: DualDiscriminatorConfig = field(
        default_factory=lambda: DualDiscriminatorConfig(
            has_correspondence=True, has_mask=True, group_size=2, camera_axes="opengl"
        )
    )
    """The network that tells generated pictures from real ones."""

    loss: GenHeadLossConfig = field(default_factory=GenHeadLossConfig)
    """What both networks minimise."""

    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    """A start without a discriminator."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to the discriminator's pictures, for small sets."""

    adaptive: AdaptiveStrengthConfig = field(default_factory=lambda: AdaptiveStrengthConfig(maximum=0.0))
    """How often; a maximum of 0, the default, is never."""

    heads_from_batch: bool = False
    """Generated heads take cameras and parameters of the batch's pictures, not of pictures drawn anew for each phase:
    their deformation is then made once a step."""

    are_fakes_shared: bool = False
    """The discriminator learns from the pictures that the generator was judged by in the same step, not from new ones,
    which saves a fifth of a step."""

    data: HeadDataConfig = field(default_factory=HeadDataConfig)
    """The pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        discriminator = self.discriminator
        self.check_side(self.generator.resolution)
        if not (discriminator.has_correspondence and discriminator.has_mask):
            raise InputError("expected a discriminator with has_correspondence and has_mask, as GenHead's are")
        if discriminator.camera_axes != "opengl" or discriminator.condition_dim != 25:
            raise InputError("expected discriminator.camera_axes opengl and condition_dim 25, a camera's label")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        return tuple(Path(path) for path in (*self.data.paths, self.resume_from, self.flame) if path is not None)

    def make_task(self, device: torch.device) -> "GenHeadTask":
        """Networks at their start, and the data.

        Raises:
            InputError: see `GenHeadTask`.
        """
        del device  # the loop moves networks, and a part says where it is computed
        return GenHeadTask(self)


class GenHeadTask(GanTask):
    """Generator and discriminator, the phases of a step, and the pictures they learn from.

    Attributes:
        kept_start: tensors that `resume_from` did not hold, see `load_start`.

    Args:
        config: of the training.
        head: the head model; None makes the configuration's.
        heads: to learn from; None reads the configuration's.

    Raises:
        InputError: the pictures, the head model or the weights to start from do not fit.
    """

    def __init__(
        self, config: GenHeadTraining, *, head: PartHead | None = None, heads: TrainingHeads | None = None
    ) -> None:
        self.config = config
        head = head or make_part_head(config.generator, config.flame)
        if heads is None:
            heads = TrainingHeads(config.data, generator=config.generator, head=head, mirror=_mirror(config))
            check_sides(heads, head)
        self.heads = heads
        config.check_enough(len(self.heads))
        self.data_digest = self.heads.digest
        self.generator, self.discriminator, self.kept_start = _make_networks(config, head)
        self.samples = HeadSamples(
            self.heads,
            self.generator,
            seed=config.train.seed,
            num_threads=config.data.threads,
            capacity=3 * config.train.batch_size,  # this batch, the next, and what is just being read
            are_from_batch=config.heads_from_batch,
        )
        super().__init__(config, self.generator, self.generator.backbone.mapping, self.discriminator)
        self.strength = AdaptiveStrength(config.adaptive)
        self.phases = GenHeadPhases(
            self.generator,
            self.samples,
            judge=self._judge,
            note=self._note,
            loss=config.loss,
            supervised=config.supervised,
            are_fakes_shared=config.are_fakes_shared,
        ).in_order()
        self.grid = GridSamples.draw(self.heads.table, config.generator.latent_dim, seed=config.train.seed)

    def prefetch(self, positions: Sequence[int]) -> None:
        """See `Task`."""
        self.samples.stream.prefetch(positions)

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        """Moves the mean of w, over all parts and processes, and the strength of augmentation."""
        self.move_mean_style(workers)
        found = self.strength.finish(batch_size=step.batch_size, workers=workers)
        fades = self.config.loss.fades_at(step.images_seen)
        return {
            "schedule/blur_sigma": fades.blur_sigma,
            "schedule/swap_probability": fades.swap_probability,
            **found,
        }

    def state(self) -> dict[str, Tensor]:
        """The fixed samples, so that pictures of a run compare, and the strength of augmentation."""
        return {**self.grid.state(), **self.strength.state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Task`."""
        self.grid = GridSamples.from_state(state)
        self.strength.load_state(state)

    def save_weights(self, folder: Path, averages: Mapping[str, nn.Module]) -> None:
        """The averaged generator, and the discriminator in a folder of its own, from which a training can start."""
        save_networks(folder, cast(GenHeadGenerator, averages["generator"]), self.discriminator)

    def draw_grid(self, averages: Mapping[str, nn.Module]) -> NDArray:
        """Heads of fixed codes: as in the data, from other sides, with other expressions."""
        return draw_grid(cast(GenHeadGenerator, averages["generator"]), self.grid)

    def draw_codes(self, generator: nn.Module, latent: Tensor) -> Tensor:
        """See `GanTask`; all with the shape and expression of the grid's first person."""
        return draw_codes(cast(GenHeadGenerator, generator), self.grid, latent)

    def describe(self) -> dict[str, Any]:
        """See `Task`."""
        facts = {
            "pictures": len(self.heads),
            "pictures_digest": self.data_digest,
            "head_model": self.generator.head.model.name,
        }
        if self.config.resume_from is not None:
            facts |= {
                "started_from": self.config.resume_from,
                "not_in_it": brief_names(self.kept_start, self.networks) or "nothing",
            }
        return facts

    def _note(self, real_logits: Tensor, styles: Tensor) -> None:
        self.strength.note(real_logits)
        self.note_styles(styles)

    def _judge(self, part: Part, purpose: str) -> Callable[[JudgedImages, Camera | Tensor], Tensor]:
        """The discriminator behind the augmentation; fake and real pictures of a sample go through other ones."""
        strength = min(self.strength.value, self.config.adaptive.maximum)
        if not strength:
            return self.discriminator
        random, like = part.random(f"{purpose} augmentation"), torch.zeros((), device=part.device)
        side = self.config.generator.neural_resolution

        def judge(images: JudgedImages, condition: Camera | Tensor) -> Tensor:
            drawn: Augmentation = draw_augmentation(
                len(images), strength=strength, side=side, generator=random, like=like, config=self.config.augment
            )
            camera = condition if isinstance(condition, Camera) else Camera.from_label25(condition, axes="opengl")
            return self.discriminator(drawn.of_images(images), drawn.of_camera(camera))

        return judge


def _mirror(config: GenHeadTraining) -> HeadMirror | None:
    if not config.data.mirror:
        return None
    if config.generator.head != "open":
        raise InputError("expected data.mirror false with FLAME: mirroring its parameters is not exact")
    return open_head_mirror()


def _make_networks(
    config: GenHeadTraining, head: PartHead
) -> tuple[GenHeadGenerator, DualDiscriminator, Sequence[str]]:
    """Networks at their start, the same in every process, and what `load_start` did not find."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.train.seed, "networks"))
        generator = GenHeadGenerator(config.generator, head)
        discriminator = DualDiscriminator(config.discriminator)
    kept = () if config.resume_from is None else load_start(config.resume_from, generator, discriminator)
    for network in (generator, discriminator):
        set_half_dtype(network, config.train.half_dtype)
    return generator, discriminator, kept
