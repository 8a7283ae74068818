"""Everything that decides what a training of the reconstructor does; its variants differ in this alone.

* `portrait4d`: Portrait4D (Deng et al. 2024), of subjects that GenHead synthesises, half of them with a motion of their
  own and half without.
* `static`: the same without motion, the single-image training of Live 3D Portrait (Trevithick et al. 2023).
* `v2`: Portrait4D-v2 (Deng et al. 2024b), of clips, from a static network on, with that network as teacher.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from flame.errors import InputError
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.training.loss_config import ReconstructionLossConfig
from portrait4d.runtime.checks import check_choice, check_range
from portrait4d.train.config import OptimiserConfig, RunConfig

NeckMode = Literal["camera", "rectified"]

Disentangling = Literal["split", "random", "none"]
"""Whose motion is left as it is in the source: that of all static subjects (as released), of half of them at random (as
in the paper), or nobody's."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionDataConfig:
    """What is learned from: subjects of folders, subjects that are made while the training runs, or clips."""

    subjects: tuple[str, ...] = ()
    """Folders that `genhead synthesize` wrote."""

    network: str | None = None
    """GenHead that makes new subjects for every step, in place of folders: a name of released weights, a checkpoint
    folder, or an official `.pkl`. It needs data.motions."""

    motions: tuple[str, ...] = ()
    """What data.network draws motions, shapes and cameras from, as `genhead synthesize --motions` takes it."""

    live_seed: int = 0
    """Of all that data.network draws."""

    clips: tuple[str, ...] = ()
    """Shards of clips, or folders of them, as `portrait4d data video` makes them."""

    static_share: float = 0.5
    """Share of static subjects among those of a batch."""

    disentangling: Disentangling = "split"
    """Whose motion stays: split, random or none."""

    plane_points: int = 4000
    """Points at which the planes' features are compared, of each subject."""

    neck: NeckMode = "camera"
    """Whether a clip's turns of the head are in its cameras, or rectified: the cameras stand still and necks turn."""

    threads: int = 2
    """Threads that read and decode, of each kind of subject; those of data.network share it."""

    def __post_init__(self) -> None:
        given = [name for name in ("subjects", "network", "clips") if getattr(self, name)]
        if len(given) > 1:
            raise InputError(
                f"expected one of data.subjects, data.network and data.clips, got both data.{given[0]} and "
                f"data.{given[1]}: train on one after the other"
            )
        if bool(self.network) != bool(self.motions):
            alone = "data.network" if self.network else "data.motions"
            raise InputError(f"expected data.network and data.motions together, got {alone} alone: set both or neither")
        check_range("data.live_seed", self.live_seed, 0, 2**62)
        check_range("data.threads", self.threads, 1, 64)
        check_range("data.static_share", self.static_share, 0.0, 1.0)
        check_range("data.plane_points", self.plane_points, 1, None)
        check_choice("data.neck", self.neck, get_args(NeckMode))
        check_choice("data.disentangling", self.disentangling, get_args(Disentangling))


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A static reconstructor that shows driving frames from other sides (Portrait4D-v2)."""

    weights: str | None = None
    """Checkpoint folder or official file; none means that there is no teacher."""

    motion_view_share: float = 0.9
    """Share of samples whose motion is read off the teacher's picture of the driving frame, not off the frame."""

    cross_view_weight: float = 1.0
    """Weight of the difference between student and teacher from another side."""

    cross_view_interval: int = 4
    """Steps from one such look to the next."""

    def __post_init__(self) -> None:
        check_range("teacher.motion_view_share", self.motion_view_share, 0.0, 1.0)
        check_range("teacher.cross_view_weight", self.cross_view_weight, 0.0, 1e6)
        check_range("teacher.cross_view_interval", self.cross_view_interval, 1, None)


def _adam() -> OptimiserConfig:
    return OptimiserConfig(learning_rate=1e-4, betas=(0.9, 0.999), epsilon=1e-5)


@dataclass(frozen=True, kw_only=True)
class ReconstructorSettings:
    """Settings of a training; the defaults are those of Portrait4D at 512."""

    resume_from: str | None = None
    """Weights to start from: a checkpoint folder or an official file. The average remembers at once then."""

    flame: str | None = None
    """FLAME file (.pkl, .npz) with its companions beside it, for clips with network.head flame."""

    is_static: bool = False
    """Motion is never changed: single-image reconstruction (Live 3D Portrait, Trevithick et al. 2023)."""

    train: RunConfig = field(default_factory=lambda: RunConfig(total_images=15_000_000))
    """How long, in which steps, and what is kept."""

    network: ReconstructorConfig = field(default_factory=ReconstructorConfig)
    """The network that makes heads."""

    discriminator: DualDiscriminatorConfig = field(
        default_factory=lambda: DualDiscriminatorConfig(
            has_correspondence=True, has_mask=True, group_size=2, camera_axes="opengl"
        )
    )
    """The network that tells made pictures from true ones, GenHead's."""

    loss: ReconstructionLossConfig = field(default_factory=ReconstructionLossConfig)
    """What both networks minimise."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """A network that is copied from other sides."""

    optimiser: OptimiserConfig = field(default_factory=_adam)
    """Adam of the reconstructor."""

    discriminator_optimiser: OptimiserConfig = field(default_factory=_adam)
    """Adam of the discriminator."""

    data: ReconstructionDataConfig = field(default_factory=ReconstructionDataConfig)
    """The subjects or clips."""

    def __post_init__(self) -> None:
        self.train.num_rounds(group_size=self.group_size)
        if self.loss.has_adversary and self.discriminator.resolution != self.network.resolution:
            raise InputError(
                f"expected discriminator.resolution {self.network.resolution}, the side of the network's pictures, got "
                f"{self.discriminator.resolution}"
            )
        if self.resume_from is not None:
            average = replace(self.train.average, ramp_up=None)
            object.__setattr__(self, "train", replace(self.train, average=average))

    @property
    def group_size(self) -> int:
        """Samples that see each other in the discriminator."""
        return self.discriminator.num_compared if self.loss.has_adversary else 1

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        data = self.data
        folders = (*data.subjects, *data.clips, *data.motions)
        named = (*folders, data.network, self.resume_from, self.teacher.weights, self.flame)
        return tuple(Path(path) for path in named if path is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks wrong in these settings, in words."""
        return ()

    def optimisers(self) -> dict[str, OptimiserConfig]:
        """Adam's settings by network."""
        found = {"reconstructor": self.optimiser}
        return found | {"discriminator": self.discriminator_optimiser} if self.loss.has_adversary else found
