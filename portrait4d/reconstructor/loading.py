"""A reconstructor from a checkpoint's config and tensors."""

from collections.abc import Mapping

from torch import Tensor

from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.strict import check_fits, load_strict

HEAD_PREFIX = "deformer."
"""Of the tensors of the head model, which released checkpoints hold beside the network's."""


def read_architecture(config: CheckpointConfig) -> ReconstructorConfig:
    """What a checkpoint's network is built from.

    Raises:
        InputError: the config is of another kind.
    """
    if config.architecture:
        return ReconstructorConfig.from_dict(config.architecture)
    return ReconstructorConfig.from_official(
        config.official.get("init_kwargs", {}),
        rendering_kwargs=config.official.get("rendering_kwargs"),
        neural_rendering_resolution=config.official.get("neural_rendering_resolution"),
    )


def build_network(config: CheckpointConfig, tensors: Mapping[str, Tensor]) -> Reconstructor:
    """Builds the network of a checkpoint; the tensors of its head model are left out.

    Raises:
        InputError: the config or the tensors do not fit the network.
    """
    architecture = read_architecture(config)
    own = {name: value for name, value in tensors.items() if not name.startswith(HEAD_PREFIX)}
    check_fits(lambda: Reconstructor(architecture), own)
    network = Reconstructor(architecture)
    load_strict(network, own)
    return network
