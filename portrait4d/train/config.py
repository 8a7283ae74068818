"""What every training has: how much, in which steps, what is kept. The rest of a configuration is the task's."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from flame.errors import InputError
from portrait4d.runtime.checks import check_range
from portrait4d.train.average import AverageConfig

Precision = Literal["fp32", "tf32", "fp16", "bf16"]


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Settings of one network's optimiser: Adam's, before the correction for lazy regularisation."""

    learning_rate: float = 0.002
    """Learning rate."""

    betas: tuple[float, float] = (0.0, 0.99)
    """Decay of both moments per step."""

    epsilon: float = 1e-8
    """Added to the root of the second moment."""

    rates: dict[str, float] = field(default_factory=dict)
    """Factors on the learning rate of parameters whose name starts with a key, in which `*` stands for anything."""

    muon: tuple[str, ...] = ()
    """Parameters of two dimensions or more whose name starts with one of these take Muon's steps in place of Adam's
    (Jordan et al. 2024): small networks without norms learn from half the images."""

    muon_rate: float = 0.005
    """Learning rate of those; `rates` are factors on it, too."""

    def __post_init__(self) -> None:
        check_range("learning rate", self.learning_rate, 0.0, 10.0)
        check_range("Muon's learning rate", self.muon_rate, 0.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long and in which steps a network learns, and what a run keeps."""

    seed: int = 0
    """Of all random numbers."""

    total_images: int = 25_000_000
    """Training ends after so many samples."""

    batch_size: int = 32
    """Samples of one step, over all processes."""

    micro_batch: int = 0
    """Samples that a process computes at once, a divisor of its share of the batch; 0 takes all of it. Fewer need less
    memory and give the same result."""

    precision: Precision = "fp32"
    """fp32, tf32 (CUDA's fast products), fp16 (the finest blocks on CUDA, as released) or bf16 (the same blocks, on any
    device); the last two take CUDA's fast products elsewhere."""

    recompute: bool = False
    """Compute the generator's activations again in the backward pass instead of keeping them: less memory, more time,
    the same result."""

    checkpoint_images: int = 200_000
    """Samples between two checkpoints."""

    checkpoint_seconds: float = 600.0
    """Seconds after which a checkpoint is due in any case."""

    keep_last: int = 2
    """Newest checkpoints that are kept."""

    keep_every_images: int = 1_000_000
    """A checkpoint is kept for good each time so many samples have passed; 0 keeps the newest only."""

    report_images: int = 4_000
    """Samples between two rows of statistics."""

    grid_images: int = 200_000
    """Samples between two pictures of fixed samples."""

    max_bad_steps: int = 10
    """Steps in a row with a gradient that is not finite after which the run ends."""

    average: AverageConfig = field(default_factory=AverageConfig)
    """How long averaged weights remember."""

    is_tensorboard: bool = False
    """Also write statistics for TensorBoard (extra `tensorboard`)."""

    @property
    def half_dtype(self) -> torch.dtype | None:
        """The type of the finest blocks; None computes them as the others."""
        match self.precision:
            case "fp32" | "tf32":
                return None
            case "fp16":
                return torch.float16
            case "bf16":
                return torch.bfloat16
            case _:
                raise InputError(f"expected train.precision fp32, tf32, fp16 or bf16, got {self.precision!r}")

    def num_rounds(self, *, num_workers: int = 1, group_size: int = 1) -> int:
        """Parts of the batch that each process computes, one after the other.

        Args:
            num_workers: processes that share the batch.
            group_size: samples that see each other, which stay in one part.

        Raises:
            InputError: `micro_batch` does not divide a process's share into whole groups.
        """
        groups, rest = divmod(self.batch_size, num_workers * group_size)
        if not self.micro_batch or rest:  # `split_batch` refuses a rest
            return 1
        share, fitting = groups * group_size, [group_size * n for n in range(1, groups + 1) if groups % n == 0]
        if self.micro_batch not in fitting:
            raise InputError(
                f"expected train.micro_batch to divide {share}, a process's share of train.batch_size, into groups of "
                f"{group_size}: 0 or one of {', '.join(map(str, fitting))}, got {self.micro_batch}"
            )
        return share // self.micro_batch

    def __post_init__(self) -> None:
        check_range("train.batch_size", self.batch_size, 1, None)
        check_range("train.micro_batch", self.micro_batch, 0, None)
        check_range("train.total_images", self.total_images, 1, None)
        check_range("train.keep_last", self.keep_last, 1, None)
