"""A reconstructor's training of seconds: random subjects, or renders of the open head; tiny networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from flame.heads.open_head import load_open_head
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.encoders import EncoderConfig
from portrait4d.reconstructor.motion_codes import parameter_code_size
from portrait4d.reconstructor.training.config import ReconstructionDataConfig
from portrait4d.reconstructor.training.loss_config import ReconstructionLossConfig
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.average import AverageConfig
from portrait4d.train.config import OptimiserConfig, RunConfig
from preprocess.dataset.records.container import write_container
from preprocess.dataset.synthetic.record import SyntheticInfo, SyntheticSubject, encode_subject, encode_synthetic_info
from preprocess.dataset.synthetic.views import SubjectKind
from preprocess.dataset.toy.records import FOV_DEGREES, PIVOT

BATCH, SIDE, RENDERED, CHANNELS, POINTS = 4, 64, 32, 4, 20
NUM_EXPRESSION = 86

NETWORK = ReconstructorConfig(
    encoder=EncoderConfig(width_divisor=8, num_blocks=(1, 1, 1, 1), rates=(1, 2)),
    source_resolution=32,
    canonicaliser=CanonicaliserConfig(
        dim=16,
        motion_dim=parameter_code_size(NUM_EXPRESSION),
        hidden_dim=16,
        motion_grid=2,
        num_heads=2,
        num_neutral_blocks=1,
        num_motion_blocks=1,
    ),
    plane_decoder_dim=16,
    plane_channels=CHANNELS,
    has_plane_mean=True,
    decoder_channels=8,
    style_dim=8,
    neural_resolution=RENDERED,
    render=RenderConfig(range_mode="plane", box_warp=1.3, num_coarse=4, num_fine=4, is_noise_shared=True),
    superresolution=SuperResolutionConfig(kind="2x64", style_source="ones", noise="none", is_half=False),
    motion="parameters",
    head="open",
    head_origin=PIVOT,
    camera_fov_degrees=FOV_DEGREES,
)

DISCRIMINATOR = DualDiscriminatorConfig(
    resolution=SIDE,
    has_correspondence=True,
    has_mask=True,
    channel_base=256,
    channel_max=8,
    num_mapping_layers=2,
    num_half_resolutions=0,
    group_size=2,
    camera_axes="opengl",
)


def make_subjects(folder: Path, *, num_dynamic: int = 6, num_static: int = 6, has_correspondence: bool = True) -> Path:
    """Subjects of random numbers, as a folder that `genhead synthesize` wrote."""
    kinds: list[SubjectKind] = [*["dynamic"] * num_dynamic, *["static"] * num_static]  # pyright: ignore
    info = SyntheticInfo("open", PIVOT, SIDE, RENDERED, "random numbers")
    subjects = [_subject(index, kind, has_correspondence) for index, kind in enumerate(kinds)]
    records = ((subject.key, encode_subject(subject)) for subject in subjects)
    write_container(folder / "heads-00000000.tar", encode_synthetic_info(info), records)
    return folder


def _subject(index: int, kind: SubjectKind, has_correspondence: bool) -> SyntheticSubject:
    random = np.random.default_rng([7, index])
    uniform = lambda *shape: random.uniform(-1, 1, shape).astype(np.float32)  # noqa: E731
    half = lambda *shape: uniform(*shape).astype(np.float16)  # noqa: E731
    label = np.zeros((3, 25), np.float32)
    label[:, [0, 5, 10, 15]], label[:, 11] = 1, 4.2
    label[:, [16, 20]], label[:, [18, 21]], label[:, 24] = 4.22, 0.5, 1
    expression, eyes = (
        random.uniform(0, 1, (3, NUM_EXPRESSION)).astype(np.float32),
        (uniform(3, 2, 3) / 5).astype(np.float32),
    )
    moves = [0, 0, 0] if kind == "static" else [0, 1, 1]
    side = SIDE if has_correspondence else 0
    return SyntheticSubject(
        key=f"7-{index:08d}",
        kind=kind,
        image=random.integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8),
        features=half(3, CHANNELS, RENDERED, RENDERED),
        alpha=((uniform(3, 1, RENDERED, RENDERED) + 1) / 2).astype(np.float16),
        depth=(4.2 + uniform(3, 1, RENDERED, RENDERED) / 3).astype(np.float32),
        background=half(CHANNELS, RENDERED, RENDERED),
        correspondence=half(3, 3, side, side),
        landmarks=(SIDE * (0.5 + uniform(3, 70, 2) / 4)).astype(np.float32),
        points=(uniform(POINTS, 3) / 2).astype(np.float32),
        plane_features=half(POINTS, CHANNELS),
        label=label,
        condition=label[0],
        latent=uniform(8),
        shape=uniform(300),
        expression=expression[moves],
        jaw=np.zeros((3, 3), np.float32),
        eyes=eyes[moves],
    )


def toy_training(
    *, subjects: Path | None = None, clips: Path | None = None, **changes: object
) -> ReconstructorTraining:
    """The configuration of a run of three steps, with all losses; clips have no correspondence for an adversary."""
    is_judged = clips is None
    settings = {
        "train": RunConfig(
            total_images=3 * BATCH,
            batch_size=BATCH,
            report_images=BATCH,
            checkpoint_images=BATCH,
            grid_images=0,
            average=AverageConfig(half_life_images=8.0, ramp_up=None),
        ),
        "network": NETWORK,
        "discriminator": DISCRIMINATOR,
        "optimiser": OptimiserConfig(learning_rate=1e-3),
        "loss": ReconstructionLossConfig(
            perceptual="pyramid",
            region_weight=2.0,
            identity="thumbnail",
            volume_images=BATCH,
            adversarial_images=0,
            adversarial_weight=0.1 if is_judged else 0.0,
            density_points=50,
            density_range="cube",
            density_interval=2,
            r1_interval=2,
            resolution_initial=RENDERED,
        ),
        "data": ReconstructionDataConfig(
            subjects=() if subjects is None else (str(subjects),),
            clips=() if clips is None else (str(clips),),
            plane_points=POINTS,
        ),
    }
    return ReconstructorTraining(**(settings | changes))  # pyright: ignore[reportArgumentType]


def with_loss(config: ReconstructorTraining, **changes: object) -> ReconstructorTraining:
    """The same with other settings of the loss."""
    return replace(config, loss=replace(config.loss, **changes))  # pyright: ignore[reportArgumentType]


assert load_open_head().num_expression == NUM_EXPRESSION
