"""GenHead generators from weights: our own folder, and an official file with FLAME in its buffers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.pickles.numbers import read_numbers
from flame_tensors import PREFIX, network_tensors
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator, condition_label
from official_pickles import build_module, official_names, save_official
from portrait4d.headparts.head import PartHead
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import write_checkpoint
from portrait4d.weights.strict import CheckpointMismatch

RENDERING: dict[str, Any] = {
    "superresolution_module": "models.stylegan.superresolution.SuperresolutionHybrid2X",
    "superresolution_noise_mode": "none",
    "ray_start": "auto-plane",
    "ray_end": "auto-plane",
    "box_warp": 1.3,
    "depth_resolution": 4,
    "depth_resolution_importance": 4,
    "c_scale": 1,
}
KEYWORDS: dict[str, Any] = {
    "z_dim": 8,
    "w_dim": 8,
    "c_dim": 325,
    "mapping_kwargs": {"num_layers": 2},
    "channel_base": 512,
    "channel_max": 8,
    "triplane_resolution": 32,
    "triplane_channels": 192,
    "num_fp16_res": 0,
    "conv_clamp": None,
    "sr_num_fp16_res": 4,
    "sr_kwargs": {"use_ws_ones": True},
    "has_superresolution": True,
    "has_background": True,
    "rendering_kwargs": RENDERING,
}

pytestmark = pytest.mark.usefixtures("one_thread")


def flame_buffers(folder: Path) -> dict[str, Tensor]:
    """The head buffers of a released GenHead, made of FLAME-shaped files."""
    tensors = network_tensors(folder)
    masks = read_numbers(folder / "mask" / "FLAME_masks.pkl")
    addition = read_numbers(folder / "flame_addition_info_new_smallface.npy")
    faces = tensors[PREFIX + "flame_model.faces_tensor"]
    canonical = PartHead.from_flame_files(folder / "geometry" / "generic_model.pkl").canonical

    def within(vertices: np.ndarray) -> Tensor:
        """Triangles re-indexed to the vertices' order, as the released code keeps them."""
        place = torch.full((len(canonical),), -1)
        place[torch.from_numpy(vertices)] = torch.arange(len(vertices))
        return place[faces][(place[faces] >= 0).all(1)]

    eyes = np.array(addition["eye_idxs"])
    face = np.unique(np.concatenate([masks["face"], eyes]))
    for name in ("eye_idxs", "face_idxs", "vertices_region_idxs"):
        tensors[PREFIX + name] = torch.from_numpy(np.array(addition[name], np.int64))
    for name in ("lips", "noinmouth"):
        tensors[f"{PREFIX}{name}_idxs"] = torch.from_numpy(np.array(masks[name], np.int64))
    tensors[PREFIX + "canonical_shape"] = canonical[None]
    tensors[PREFIX + "canonical_shape_face_only"] = canonical[None, torch.from_numpy(face)]
    tensors[PREFIX + "masked_eye_faces"] = within(eyes)
    tensors[PREFIX + "masked_face_wo_eye_faces"] = within(np.array(masks["face"]))
    tensors[PREFIX + "masked_noinmouth_faces"] = within(np.array(masks["noinmouth"]))
    return tensors


def _random(config: GenHeadConfig, head: PartHead) -> GenHeadGenerator:
    torch.manual_seed(1)
    generator = GenHeadGenerator(config, head).eval().requires_grad_(False)
    generator.backbone.mapping.w_avg.normal_()
    torch.nn.init.normal_(generator.decoder.out_sigma.weight, 0, 5)
    return generator


def _picture(generator: GenHeadGenerator) -> Tensor:
    config, model = generator.config, generator.head.model
    params = HeadParams.zeros(model).replace(jaw=torch.tensor([[0.2, 0.0, 0.0]]))
    camera = Camera.orbit(
        torch.tensor([10.0]),
        torch.tensor([0.0]),
        radius=config.camera_radius,
        target=torch.zeros(3),
        fov_degrees=config.camera_fov_degrees,
    )
    latent = torch.randn(1, config.latent_dim, generator=torch.Generator().manual_seed(5))
    volume = generator.sample(latent, condition_label(camera, params.shape), psi=0.7)
    return generator.render(volume, camera, generator.head.pose(params), neural_resolution=16).image


def _own(folder: Path, generator: GenHeadGenerator, **changes: Any) -> Path:
    entries = {"family": "genhead", "network": "generator", "architecture": generator.config.to_dict(), **changes}
    config = CheckpointConfig(**entries, plane_layout="orthogonal", camera_axes="opengl", box_warp=1.3)
    write_checkpoint(folder, config, generator.state_dict())
    return folder


def test_own_format_gives_the_same_generator(tmp_path: Path) -> None:
    generator = _random(GenHeadConfig.toy(), PartHead.from_open_head())
    loaded = GenHeadGenerator.from_pretrained(_own(tmp_path / "network", generator))
    assert loaded.config == generator.config
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(_picture(loaded), _picture(generator))
    with pytest.raises(InputError, match="expected the weights of a GenHead generator, got eg3d generator"):
        GenHeadGenerator.from_pretrained(_own(tmp_path / "other", generator, family="eg3d", architecture={}))
    wider = {**generator.config.to_dict(), "plane_resolution": 128}
    with pytest.raises(CheckpointMismatch, match="missing: backbone.synthesis.b128"):
        GenHeadGenerator.from_pretrained(_own(tmp_path / "wider", generator, architecture=wider))


def test_regions_out_of_buffers_are_those_of_the_files(synthetic_flame: Path) -> None:
    of_files = PartHead.from_flame_files(synthetic_flame / "geometry" / "generic_model.pkl")
    tensors = flame_buffers(synthetic_flame)
    of_tensors = PartHead.from_tensors(tensors)
    names = [name for name, _ in of_files.named_buffers() if not name.startswith("model.")]
    assert "face_faces" in names
    for name in names:
        assert torch.equal(of_files.get_buffer(name), of_tensors.get_buffer(name)), name
    tensors[PREFIX + "masked_face_wo_eye_faces"] = tensors[PREFIX + "masked_face_wo_eye_faces"][1:]
    with pytest.raises(InputError, match="masked_face_wo_eye_faces has .* triangles, its vertices give"):
        PartHead.from_tensors(tensors)
    del tensors[PREFIX + "lips_idxs"]
    with pytest.raises(InputError, match=r"masked_face|lips_idxs"):
        PartHead.from_tensors(tensors)


def test_an_official_file_gives_the_same_pictures(tmp_path: Path, synthetic_flame: Path) -> None:
    """Network and FLAME come out of one pickle; nothing in it is run."""
    buffers = flame_buffers(synthetic_flame)
    config = GenHeadConfig.from_official(KEYWORDS, neural_rendering_resolution=16)
    assert (config.plane_channels, config.superresolution.style_source) == (32, "ones")
    generator = _random(config, PartHead.from_tensors(buffers))
    tensors = {name: tensor.clone() for name, tensor in generator.state_dict().items()} | buffers
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    tensors["backbone.synthesis.b8.resample_filter"] = torch.outer(row, row) / 64
    parameters = {name for name, _ in generator.named_parameters()}
    with official_names() as plain:
        names = {"": "PartTriPlaneGeneratorDeform"}
        module = build_module(tensors, parameters, class_names=names, plain=plain, init_kwargs=KEYWORDS)
        module.__dict__.update(rendering_kwargs=RENDERING, neural_rendering_resolution=16)
        path = save_official(tmp_path / "genhead.pkl", {"G_ema": module})
    loaded = GenHeadGenerator.from_pretrained(path)
    assert loaded.config == config
    assert torch.equal(_picture(loaded), _picture(generator))


def test_a_folder_without_its_files_is_refused(tmp_path: Path, synthetic_flame: Path) -> None:
    from flame.heads.flame import load_flame
    from portrait4d.headparts.regions import flame_regions

    model = load_flame(synthetic_flame / "geometry" / "generic_model.pkl", unit="portrait4d")
    with pytest.raises(InputError, match="expected FLAME_masks.pkl, flame_addition_info"):
        flame_regions(model, tmp_path / "flame" / "generic_model.pkl")
