"""Generators from weights: our own format, official files, what is refused; from file to picture by the commands."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fakes_eg3d import CONFIG
from flame.errors import InputError
from official_pickles import build_module, official_names, save_official
from portrait4d.cli.main import run
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.jobs.eg3d.options import SampleOptions
from portrait4d.jobs.eg3d.samples import render_seed
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.own_format import write_checkpoint
from portrait4d.weights.strict import CheckpointMismatch
from preprocess.media.image import read_image, to_uint8

RENDERING: dict[str, Any] = {
    "superresolution_module": "training.superresolution.SuperresolutionHybrid2X",
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "depth_resolution": 8,
    "depth_resolution_importance": 8,
    "avg_camera_radius": 2.5,
    "avg_camera_pivot": [0, 0, 0.1],
    "c_scale": 1,
}
KEYWORDS: dict[str, Any] = {
    "z_dim": 8,
    "w_dim": 8,
    "c_dim": 25,
    "img_resolution": 128,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 2},
    "channel_base": 1024,
    "channel_max": 8,
    "num_fp16_res": 0,
    "conv_clamp": None,
    "sr_num_fp16_res": 4,
    "sr_kwargs": {},
    "rendering_kwargs": RENDERING,
}


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """The networks are small."""


def _noise(config: EG3DConfig) -> EG3DGenerator:
    torch.manual_seed(1)
    generator = EG3DGenerator(config).eval().requires_grad_(False)
    generator.backbone.mapping.w_avg.normal_()
    return generator


def _own(folder: Path, generator: EG3DGenerator, **changes: Any) -> Path:
    config = CheckpointConfig(
        family="eg3d", network="generator", architecture=generator.config.to_dict(), plane_layout="eg3d",
        camera_axes="opencv", box_warp=1.0,
    )  # fmt: skip
    write_checkpoint(folder, replace(config, **changes), generator.state_dict())
    return folder


def _official(path: Path, generator: EG3DGenerator) -> Path:
    """A file as the authors' training loop writes it, with the constant kernels that ours leaves out."""
    tensors = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    tensors["backbone.synthesis.b8.resample_filter"] = torch.outer(row, row) / 64
    parameters = {name for name, _ in generator.named_parameters()}
    with official_names() as plain:
        names = {"": "TriPlaneGenerator"}
        module = build_module(tensors, parameters, class_names=names, plain=plain, init_kwargs=KEYWORDS)
        module.__dict__.update(rendering_kwargs=RENDERING, neural_rendering_resolution=16)
        return save_official(path, {"G_ema": module})


def _picture(generator: EG3DGenerator, seed: int) -> np.ndarray:
    views = render_seed(generator, seed, SampleOptions(seeds=(seed,)))
    return np.concatenate([to_uint8(view.image)[0] for view in views], 1)


def test_own_format_gives_the_same_generator(tmp_path: Path) -> None:
    config = replace(CONFIG, camera_radius=2.5, camera_target=(0.0, 0.0, -0.06), camera_focal=3.0)
    generator = _noise(config)
    loaded = EG3DGenerator.from_pretrained(_own(tmp_path / "network", generator))
    assert loaded.config == config
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert np.array_equal(_picture(loaded, 3), _picture(generator, 3))
    double = EG3DGenerator.from_pretrained(tmp_path / "network", dtype=torch.float64)
    assert {tensor.dtype for tensor in double.state_dict().values()} == {torch.float64}
    assert np.abs(_picture(double, 3).astype(int) - _picture(generator, 3)).max() <= 1


def test_an_official_file_gives_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From file to picture by the command, with the cameras that the file names."""
    config = EG3DConfig.from_official(KEYWORDS, neural_rendering_resolution=16)
    assert (config.camera_radius, config.camera_target, config.plane_resolution) == (2.5, (0.0, 0.0, 0.1), 256)
    generator = _noise(config)
    path = _official(tmp_path / "network.pkl", generator)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    assert run(["eg3d", "sample", str(path), "-o", str(tmp_path / "out"), "--seeds", "5", "--quiet"]) == 0
    assert np.array_equal(read_image(tmp_path / "out/seed0005.png"), _picture(generator, 5))


def test_shape_and_video_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _own(tmp_path / "network", _noise(CONFIG))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    mesh, clip = tmp_path / "head.ply", tmp_path / "clip.mp4"
    assert run(["eg3d", "shape", str(folder), "-o", str(mesh), "--resolution", "24", "--all-parts", "--quiet"]) == 0
    command = ["eg3d", "video", str(folder), "-o", str(clip), "--seeds", "0,1", "--frames-per-seed", "2", "--quiet"]
    assert run(command) == 0
    assert mesh.stat().st_size > 1000 and clip.stat().st_size > 1000


def test_other_networks_are_refused(tmp_path: Path) -> None:
    folder = _own(tmp_path / "network", _noise(CONFIG), family="genhead")
    with pytest.raises(InputError, match="expected the weights of an EG3D generator, got genhead generator"):
        EG3DGenerator.from_pretrained(folder)


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    architecture = replace(CONFIG, style_dim=9).to_dict()
    folder = _own(tmp_path / "network", _noise(CONFIG), architecture=architecture)
    with pytest.raises(CheckpointMismatch, match="misshapen"):
        EG3DGenerator.from_pretrained(folder)


def test_weights_that_are_not_here_are_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"accept the licence at https://.*`portrait4d weights convert"):
        EG3DGenerator.from_pretrained("eg3d-ffhq512-128")
    with pytest.raises(InputError, match="expected a checkpoint folder or an official file"):
        EG3DGenerator.from_pretrained(tmp_path / "none.pkl")
