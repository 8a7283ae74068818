"""What synthesised data are made of; loads no torch, so that the command line can be made from it."""

from dataclasses import dataclass
from typing import Any

from flame.errors import InputError
from portrait4d.runtime.checks import check_range
from preprocess.dataset.synthetic.views import SubjectKind

SYNTHESIS_VERSION = 1
"""Goes up when the same seed gives other records."""


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What shapes the records; the same network, motions, config and seed make the same bytes on one machine."""

    num_dynamic: int = 200
    """Subjects who appear with one motion and are to be shown with another one of the same clip."""

    num_static: int = 200
    """Subjects who keep one motion in all three views."""

    motions: tuple[str, ...] = ()
    """Where motions, shapes and cameras come from, may be given again: a motion file (.npz), a shard or a folder of
    shards, or a folder of the released lists (*_all_motion_params.npy, *_all_shape_n_c_params.npy)."""

    psi: float = 0.95
    """Truncation: 1 is none, 0 the mean head."""

    cutoff: int | None = None
    """Truncate only the first N layers. Default: all."""

    num_points: int = 4000
    """Points of the target view whose tri-plane features are kept."""

    has_correspondence: bool = True
    """Keep maps of correspondence, large at 512 px; without them they can be drawn from parameters and cameras.

    On the command line `--no-correspondence` leaves them out.
    """

    def __post_init__(self) -> None:
        check_range("dynamic", self.num_dynamic, 0, None)
        check_range("static", self.num_static, 0, None)
        check_range("points", self.num_points, 0, None)
        check_range("psi", self.psi, -2, 2)
        if self.count == 0:
            raise InputError("expected subjects, got --dynamic 0 and --static 0: ask for one or more")

    @property
    def count(self) -> int:
        """Subjects of both kinds."""
        return self.num_dynamic + self.num_static

    def kind(self, index: int) -> SubjectKind:
        """The kind of a subject; kinds are spread evenly, also beyond `count`."""
        before, after = (place * self.num_static // self.count for place in (index, index + 1))
        return "static" if after > before else "dynamic"

    @property
    def settings(self) -> dict[str, Any]:
        """What a folder that was begun must be resumed with, the motions' content aside."""
        values = {name: value for name, value in vars(self).items() if name != "motions"}
        return {**values, "synthesis_version": SYNTHESIS_VERSION}
