"""A GenHead training of seconds: renders of the open head, a small generator, a small discriminator."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from genhead.config import GenHeadConfig
from genhead.training.heads import HeadDataConfig
from genhead.training.losses import GenHeadLossConfig
from genhead.training.supervised import SupervisedConfig
from genhead.training.task import GenHeadTask, GenHeadTraining
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.gan.strength import AdaptiveStrengthConfig
from portrait4d.headparts.head import PartHead
from portrait4d.train.average import AverageConfig
from portrait4d.train.config import RunConfig
from portrait4d.train.trainer import Trainer
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.records.record_codec import encode_record
from preprocess.dataset.records.shards import read_shard, write_encoded, write_shard
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.records import ToyRecords, toy_info

FACES = ToyOptions(num_identities=10, pictures_per_identity=4, oversampling=1, identities_per_shard=5, seed=2)
BATCH = 4

Parts = dict[str, bytes]
"""A record's encoded members by the ending of their names."""

_TOY = GenHeadConfig.toy(num_samples=4)
GENERATOR = replace(
    _TOY,
    latent_dim=8,
    style_dim=16,
    plane_resolution=32,
    plane_channels=4,
    has_plane_mean=True,
    channel_base=256,
    channel_max=8,
    decoder_channels=8,
    mask_resolution=64,
    grid_resolution=12,
    background=replace(_TOY.background, channel_base=128, channel_max=8),
)
DISCRIMINATOR = DualDiscriminatorConfig(
    resolution=64,
    has_correspondence=True,
    has_mask=True,
    channel_base=256,
    channel_max=8,
    num_mapping_layers=2,
    num_half_resolutions=0,
    group_size=2,
    camera_axes="opengl",
)


def make_toy_faces(folder: Path) -> Path:
    """40 faces of 10 people in two shards, made in this process."""
    make_records = ToyRecords(FACES)
    for index in range(FACES.num_shards):
        records = [record for person in FACES.identities_of_shard(index) for record in make_records(person)]
        write_shard(folder / f"toy-{index:06d}.tar", toy_info(FACES), records)
    return folder


def rewrite_faces(
    faces: Path,
    folder: Path,
    *,
    count: int = 40,
    info: Callable[[DatasetInfo], DatasetInfo] = lambda info: info,
    record: Callable[[Record], Record] = lambda record: record,
    parts: Callable[[Parts], Parts] = lambda parts: parts,
    name: str = "changed",
) -> Path:
    """Writes the first faces into one shard of a folder, with changes that `write_shard` would refuse.

    Args:
        faces: folder of the toy faces.
        folder: made if it is missing.
        count: of the faces.
        info: changes the description.
        record: changes a record.
        parts: changes its encoded members.
        name: of the shard.
    """
    shards = [read_shard(path) for path in sorted(faces.glob("*.tar"))]
    records = [each for shard in shards for each in shard][:count]
    folder.mkdir(exist_ok=True)
    encoded = [(each.key, parts(encode_record(record(each)))) for each in records]
    write_encoded(folder / f"{name}.tar", info(shards[0].info), encoded)
    return folder


def toy_genhead(faces: Path, **changes: object) -> GenHeadTraining:
    """The configuration of a run of three steps, the first of which is supervised."""
    settings = {
        "train": RunConfig(
            total_images=3 * BATCH,
            batch_size=BATCH,
            report_images=BATCH,
            checkpoint_images=BATCH,
            grid_images=0,
            average=AverageConfig(half_life_images=8.0, ramp_up=None),
        ),
        "generator": GENERATOR,
        "discriminator": DISCRIMINATOR,
        "loss": GenHeadLossConfig(
            blur_sigma=2.0,
            blur_images=2 * BATCH,
            swap_images=100,
            density_points=50,
            density_range="cube",
            density_interval=2,
            r1_interval=2,
        ),
        "supervised": SupervisedConfig(images=BATCH, discriminator_ahead=BATCH, final_weight=0.5, depth_weight=1.0),
        "adaptive": AdaptiveStrengthConfig(interval=1, initial=0.5, adaptation_images=100),
        "heads_from_batch": True,
        "are_fakes_shared": True,
        "data": HeadDataConfig(paths=(str(faces),)),
    }
    return GenHeadTraining(**(settings | changes))  # pyright: ignore[reportArgumentType]


def toy_trainer(config: GenHeadTraining, head: PartHead) -> Trainer:
    """At the first step."""
    task = GenHeadTask(config, head=head)
    for network in task.networks.values():
        network.train()
    return Trainer(task, config.train, optimisers=config.optimisers())
