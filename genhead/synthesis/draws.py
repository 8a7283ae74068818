"""Which motions, shape and cameras a synthesised subject gets, by the rules of the released training.

Portrait4D (Deng et al. 2024), section 3.3, as released: a subject has three views, in which it appears, whose motion
it takes, and from where it is shown. Numbers are drawn apart from what is chosen by them, so that the rules can be
compared with the released code, which draws for whole batches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genhead.config import GenHeadConfig
from genhead.synthesis.pools import Moves, Pools
from portrait4d.headparts.head import JAW_AT_REST
from portrait4d.headparts.views import training_views
from portrait4d.runtime.random import derive_seed
from preprocess.dataset.synthetic.views import VIEWS, SubjectKind

_JAW_RANGE = 0.2


@dataclass(frozen=True)
class SubjectNumbers:
    """All that is drawn for a subject but its rendering's noise; rows are of the pools.

    Attributes:
        shape: row.
        cameras: rows `[3]`.
        clip: which clip.
        frames: `[2]` frames of it: of the first view, and of the others.
        clip_eyes: rows `[2]` of all clips' frames.
        still: row of the stills.
        still_eyes: row of the stills.
        jaw: `[2]` in [0, 1): new openings of both frames.
        jaw_choice: `[2]` in [0, 1): from one half on, the opening is replaced.
        look_at: `[7, 3]` in [0, 1): yaw, pitch, roll, pivot x, y, z and radius of new cameras.
        camera_choice: `[3]` in [0, 1): below one half, the camera is replaced.
        latent: `[Z]` standard normal.
    """

    shape: int
    cameras: NDArray[np.int64]
    clip: int
    frames: NDArray[np.int64]
    clip_eyes: NDArray[np.int64]
    still: int
    still_eyes: int
    jaw: NDArray[np.float64]
    jaw_choice: NDArray[np.float64]
    look_at: NDArray[np.float64]
    camera_choice: NDArray[np.float64]
    latent: NDArray[np.float32]

    @classmethod
    def draw(cls, pools: Pools, latent_dim: int, *, seed: int, index: int) -> "SubjectNumbers":
        """The numbers of one subject; they depend on the pools' sizes, the seed and the index alone."""
        random = np.random.default_rng(derive_seed(seed, "subject", index))
        rows = lambda count, size: random.integers(max(count, 1), size=size)  # noqa: E731
        clip = int(rows(pools.num_clips, 1)[0])
        length = int(np.diff(pools.clip_starts)[clip]) if pools.num_clips else 0
        return cls(
            shape=int(rows(len(pools.shape), 1)[0]),
            cameras=rows(len(pools.label), 3),
            clip=clip,
            frames=rows(length, 2),
            clip_eyes=rows(len(pools.clips), 2),
            still=int(rows(len(pools.stills), 1)[0]),
            still_eyes=int(rows(len(pools.stills), 1)[0]),
            jaw=random.random(2),
            jaw_choice=random.random(2),
            look_at=random.random((7, 3)),
            camera_choice=random.random(3),
            latent=random.standard_normal(latent_dim).astype(np.float32),
        )


@dataclass(frozen=True)
class Subject:
    """A subject's parameters, float32; the neck is at rest.

    Attributes:
        kind: see `SubjectKind`.
        latent: `[Z]`.
        shape: `[S]`.
        moves: of the three views.
        label: `[3, 25]` cameras, OpenGL axes, the network's world.
        condition: `[25]` the camera that conditions the mapping: the first view's before it was replaced.
    """

    kind: SubjectKind
    latent: NDArray[np.float32]
    shape: NDArray[np.float32]
    moves: Moves
    label: NDArray[np.float32]
    condition: NDArray[np.float32]


def choose_subject(pools: Pools, numbers: SubjectNumbers, kind: SubjectKind, config: GenHeadConfig) -> Subject:
    """What a subject gets.

    * dynamic: two frames of one clip, the second for both last views; eyes of any frame; the jaw's opening is replaced
      in half of the frames.
    * static: one still in all views, with the eyes of another; or, where there are no stills, the first frame of the
      dynamic rule.
    """
    label = pools.label[numbers.cameras].copy()
    condition = label[0].copy()
    is_new = numbers.camera_choice < 0.5
    label[is_new] = look_at_labels(numbers.look_at, config)[is_new]
    return Subject(kind, numbers.latent, pools.shape[numbers.shape], _moves(pools, numbers, kind), label, condition)


def look_at_labels(drawn: NDArray[np.float64], config: GenHeadConfig) -> NDArray[np.float32]:
    """New cameras `[N, 25]` around the head.

    Args:
        drawn: `[7, N]` in [0, 1), see `SubjectNumbers.look_at`.
        config: distances grow with that of its training cameras; the lens is theirs.
    """
    cameras = training_views(
        torch.from_numpy(np.asarray(drawn, np.float64)).float(),
        head=config.head,
        camera_radius=config.camera_radius,
        fov_degrees=config.camera_fov_degrees,
    )
    return cameras.to_label25(axes="opengl").numpy()


def _moves(pools: Pools, numbers: SubjectNumbers, kind: SubjectKind) -> Moves:
    if kind == "static" and len(pools.stills):
        stills = pools.stills
        row, eyes = [numbers.still] * len(VIEWS), [numbers.still_eyes] * len(VIEWS)
        return Moves(stills.expression[row], stills.jaw[row], stills.eyes[eyes])
    if kind not in ("dynamic", "static"):
        raise ValueError(f"kind must be 'dynamic' or 'static', got {kind!r}")
    clips, rows = pools.clips, pools.clip_starts[numbers.clip] + numbers.frames
    expression, jaw, eyes = clips.expression[rows], clips.jaw[rows], clips.eyes[numbers.clip_eyes]
    is_new, opening = numbers.jaw_choice >= 0.5, (_JAW_RANGE * numbers.jaw).astype(np.float32)
    if pools.jaw_column is None:
        jaw[is_new, 0] = opening[is_new]
    else:
        expression[is_new, pools.jaw_column] = opening[is_new] / JAW_AT_REST
    views = [0, 1, 1] if kind == "dynamic" else [0, 0, 0]
    return Moves(expression[views], jaw[views], eyes[views])
