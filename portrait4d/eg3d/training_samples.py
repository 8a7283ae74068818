"""The samples of EG3D's training by their place in the run: codes and cameras of heads to make, and real pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from portrait4d.eg3d.losses import RealPictures, Wanted
from portrait4d.eg3d.training_pictures import TrainingPictures
from portrait4d.runtime.random import derive_seed
from portrait4d.train.stream import RecordStream
from portrait4d.train.task import Part, Step
from preprocess.media.image import to_tensor


class TrainingSamples:
    """Draws what the losses ask for.

    Attributes:
        stream: the pictures in the order of the run.

    Args:
        pictures: the data.
        seed: of the run.
        latent_dim: size of z.
        num_threads: that read pictures.
        capacity: pictures held at most.
    """

    def __init__(
        self, pictures: TrainingPictures, *, seed: int, latent_dim: int, num_threads: int, capacity: int
    ) -> None:
        self.pictures, self.seed, self.latent_dim = pictures, seed, latent_dim
        self.stream = RecordStream(
            pictures, seed=derive_seed(seed, "pictures"), num_threads=num_threads, capacity=capacity
        )

    def prefetch(self, positions: Sequence[int]) -> None:
        """Starts to read pictures."""
        self.stream.prefetch(positions)

    def wanted(self, part: Part, purpose: str) -> Wanted:
        """Heads to make: their cameras are those of pictures drawn at random, anew for each purpose."""
        step, like = part.step, torch.zeros((), device=part.device)
        before = [(sample - 1) % step.batch_size for sample in part.samples]
        return Wanted(
            latent=part.random(f"{purpose} latent").normal((len(part), self.latent_dim), like),
            label=self._drawn_labels(step, part.samples, purpose).to(like),
            predecessor=self._drawn_labels(step, before, purpose).to(like),
        )

    def real(self, part: Part) -> RealPictures:
        """The pictures of the part's places in the stream."""
        found = [self.stream.at(position) for position in part.positions]
        image = torch.cat([to_tensor(picture.image) for picture in found])
        label = torch.stack([torch.from_numpy(picture.label) for picture in found])
        return RealPictures(image.to(part.device), label.to(part.device))

    def fixed(self, count: int) -> tuple[Tensor, Tensor]:
        """Codes `[count, latent_dim]` and labels `[count, 25]` that stay the same all the run."""
        source = torch.Generator().manual_seed(derive_seed(self.seed, "grid"))
        latents = torch.randn(count, self.latent_dim, generator=source)
        rows = [derive_seed(self.seed, "grid", index) % len(self.pictures) for index in range(count)]
        return latents, torch.from_numpy(self.pictures.labels[rows])

    def _drawn_labels(self, step: Step, samples: Sequence[int], purpose: str) -> Tensor:
        """`[B, 25]`; those of any sample, so that a part knows the labels of samples in others."""
        count = len(self.pictures)
        rows = [derive_seed(step.seed, step.images_seen + sample, f"{purpose} label") % count for sample in samples]
        return torch.from_numpy(self.pictures.labels[rows])

    def close(self) -> None:
        """Ends the readers."""
        self.stream.close()
