"""Synthesised subjects, live: a generator, pools and a seed become pictures with all that is known of them."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.render import PartSamples
from genhead.synthesis.config import SynthesisConfig
from genhead.synthesis.draws import Subject, SubjectNumbers, choose_subject
from genhead.synthesis.pools import Pools, read_pools
from genhead.volume import HeadImages
from portrait4d.headparts.head import UNITS_PER_METRE
from portrait4d.runtime.random import PerSample, RandomSource, derive_seed
from preprocess.dataset.synthetic.record import SyntheticInfo, SyntheticSubject
from preprocess.dataset.synthetic.views import SubjectKind
from preprocess.media.image import to_uint8

_NUM_LANDMARKS = 70


@dataclass(frozen=True)
class RenderedSubject:
    """What the network gives of a subject, before it is stored; V views.

    Attributes:
        views: of batch 1 each, the last with samples.
        correspondence: `[V, 3, S, S]`, or `[V, 3, 0, 0]`.
        landmarks: `[V, 70, 2]` px of the result.
        num_chosen_from: samples of the last view outside of eyes and mouth.
        points: `[P, 3]` some of them.
        plane_features: `[P, C]` there.
    """

    views: list[HeadImages]
    correspondence: Tensor
    landmarks: Tensor
    num_chosen_from: int
    points: Tensor
    plane_features: Tensor


class SyntheticHeads:
    """Subjects by number, and without end as an iterator; the same number gives the same subject.

    Args:
        network: a generator, or what `GenHeadGenerator.from_pretrained` takes.
        config: what shapes the subjects.
        seed: of all numbers.
        pools: to draw from; None reads those that the config names.
        device: where a network that is loaded runs.

    Raises:
        InputError: the network or the motions cannot be used, or motions of a kind are missing.
    """

    def __init__(
        self,
        network: GenHeadGenerator | str | Path,
        config: SynthesisConfig,
        *,
        seed: int = 0,
        pools: Pools | None = None,
        device: str = "cpu",
    ) -> None:
        if not isinstance(network, GenHeadGenerator):
            network = GenHeadGenerator.from_pretrained(network, device=device)
        self.generator, self.config, self.seed = network, config, seed
        self.pools = pools or read_pools(config.motions, network.head.model, network.config)
        self.pools.check(config.num_dynamic)

    def __len__(self) -> int:
        return self.config.count

    def __iter__(self) -> Iterator[SyntheticSubject]:
        return map(self.__getitem__, itertools.count())

    def __getitem__(self, index: int) -> SyntheticSubject:
        """A subject; any number from 0 on, also beyond the length.

        Raises:
            IndexError: the number is below 0.
        """
        if index < 0:
            raise IndexError(f"subject {index}: expected 0 or more")
        return self.subject(index, self.config.kind(index))

    def subject(self, index: int, kind: SubjectKind) -> SyntheticSubject:
        """A subject of a kind by its number; threads may ask at once, since the network is only read."""
        own = self.generator.config
        numbers = SubjectNumbers.draw(self.pools, own.latent_dim, seed=self.seed, index=index)
        subject = choose_subject(self.pools, numbers, kind, own)
        seeds = [derive_seed(self.seed, "subject", index, "view", view) for view in range(len(subject.label))]
        random = np.random.default_rng(derive_seed(self.seed, "subject", index, "points"))
        rendered = render_subject(
            self.generator,
            subject,
            self.config,
            sources=[PerSample([own_seed]) for own_seed in seeds],
            permute=lambda count: torch.from_numpy(random.permutation(count)),
        )
        return _stored(f"{self.seed}-{index:08d}", subject, rendered)

    @property
    def info(self) -> SyntheticInfo:
        """What all subjects share."""
        own = self.generator.config
        return SyntheticInfo(
            head_model=own.head,
            head_origin=own.head_origin,
            image_size=own.resolution,
            neural_resolution=own.neural_resolution,
            network_digest=network_digest(self.generator),
            units_per_metre=UNITS_PER_METRE,
        )

    @property
    def num_features(self) -> int:
        """Channels of the rendered features."""
        return self.generator.config.plane_channels

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what the subjects are, plain values."""
        return {
            **self.config.settings,
            "seed": self.seed,
            "network": network_digest(self.generator),
            "motions": self.pools.digest,
        }

    @property
    def digest(self) -> str:
        """Of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()


@torch.no_grad()
def render_subject(
    generator: GenHeadGenerator,
    subject: Subject,
    config: SynthesisConfig,
    *,
    sources: Sequence[RandomSource],
    permute: Callable[[int], Tensor],
) -> RenderedSubject:
    """Renders the views of a subject, one after another.

    Args:
        generator: the network.
        subject: who, and with which motions and cameras.
        config: truncation, and what is kept.
        sources: of each view's sampling noise.
        permute: a random order of so many samples.
    """
    like, own = generator.backbone.mapping.w_avg, generator.config
    latent, shape, condition = (
        _tensor(values)[None].to(like) for values in (subject.latent, subject.shape, subject.condition)
    )
    label = torch.cat([condition, shape], 1)
    volume = generator.sample(latent, label, psi=config.psi, cutoff=config.cutoff)
    cameras = Camera.from_label25(_tensor(subject.label), axes="opengl").to(like.device, like.dtype)
    params = _params(subject).to(like.device, like.dtype)
    posed = generator.head.pose(params)
    last = len(cameras) - 1
    views = [
        generator.render(
            volume,
            cameras[view],
            posed[view : view + 1],
            keeps_samples=view == last,
            generator=sources[view],
        )
        for view in range(len(cameras))
    ]
    side = own.resolution
    maps = like.new_zeros(len(cameras), 3, 0, 0)
    if config.has_correspondence:
        maps = generator.correspondences(posed, cameras, size=side)
    corners = generator.head.model.landmarks(posed.posed, count=_NUM_LANDMARKS)
    pixels, _ = cameras.project(corners, height=side, width=side)
    samples = views[-1].samples
    if samples is None:
        raise RuntimeError("the renderer kept no samples")
    kept = _outside(samples)
    chosen = kept[permute(len(kept)).to(kept.device)[: config.num_points]]
    return RenderedSubject(views, maps, pixels, len(kept), samples.points[0, chosen], samples.face_features[0, chosen])


def network_digest(generator: GenHeadGenerator) -> str:
    """SHA-256 of a network's configuration and tensors."""
    digest = hashlib.sha256(repr(sorted(generator.config.to_dict().items())).encode())
    for name, tensor in sorted(generator.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _outside(samples: PartSamples) -> Tensor:
    """Indices `[N]` of even samples that are the face's alone; a pixel of an eye counts outside of the eye's box."""
    return ((samples.eye_mask + samples.mouth_mask).flatten() == 0).nonzero()[:, 0]


def _tensor(values: NDArray[np.float32]) -> Tensor:
    """A copy in memory that torch has laid out: sums may depend on where rows begin, which differs by process."""
    return torch.from_numpy(values).clone()


def _params(subject: Subject) -> HeadParams:
    expression, jaw, eyes = (_tensor(getattr(subject.moves, name)) for name in ("expression", "jaw", "eyes"))
    shape = _tensor(subject.shape)[None].expand(len(jaw), -1)
    return HeadParams(shape, expression, torch.zeros_like(jaw), jaw, eyes)


def _stored(key: str, subject: Subject, rendered: RenderedSubject) -> SyntheticSubject:
    """In the precision of the files."""
    views = rendered.views
    half = lambda tensor: tensor.half().cpu().numpy()  # noqa: E731
    single = lambda tensor: tensor.float().cpu().numpy()  # noqa: E731
    return SyntheticSubject(
        key=key,
        kind=subject.kind,
        image=np.concatenate([to_uint8(view.image) for view in views]),
        features=half(torch.cat([view.features for view in views])),
        alpha=half(torch.cat([view.alpha for view in views])),
        depth=single(torch.cat([view.depth for view in views])),
        background=half(views[0].background[0]),
        correspondence=half(rendered.correspondence),
        landmarks=single(rendered.landmarks),
        points=single(rendered.points),
        plane_features=half(rendered.plane_features),
        label=subject.label,
        condition=subject.condition,
        latent=subject.latent,
        shape=subject.shape,
        expression=subject.moves.expression,
        jaw=subject.moves.jaw,
        eyes=subject.moves.eyes,
    )
