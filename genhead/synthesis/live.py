"""Subjects for a training of the reconstructor that makes them while it runs: the entry point `portrait4d.subjects`."""

from genhead.synthesis.config import SynthesisConfig
from genhead.synthesis.subjects import SyntheticHeads
from portrait4d.reconstructor.training.live import LiveRequest


def make_subjects(request: LiveRequest) -> SyntheticHeads:
    """The subjects that a training wants; they are what `genhead synthesize` would write for the same settings.

    Raises:
        InputError: the network or the motions cannot be used, or motions of a kind are missing.
    """
    config = SynthesisConfig(
        num_dynamic=int("dynamic" in request.kinds),
        num_static=int("static" in request.kinds),
        motions=request.motions,
        num_points=request.num_points,
        has_correspondence=request.has_correspondence,
    )
    return SyntheticHeads(request.network, config, seed=request.seed, device=request.device)
