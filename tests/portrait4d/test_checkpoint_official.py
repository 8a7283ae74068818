"""Official files: everything in them is read, bit for bit, nothing in them runs, and conversion can be undone."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flame.errors import InputError
from official_pickles import (
    PLAIN_CLASSES,
    Module,
    load_manifest,
    module_from_manifest,
    official_names,
    random_tensors,
    save_official,
    small_module,
)
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.official.convert import convert_file
from portrait4d.weights.official.file import read_official
from portrait4d.weights.official.inspection import inspect_file
from portrait4d.weights.official.names import find_official
from portrait4d.weights.official.state import LABEL_STD, is_resample_filter, to_official
from portrait4d.weights.official.structure import check_structure
from portrait4d.weights.official.torch_blob import read_torch_file
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.store import resolve_weights
from portrait4d.weights.strict import CheckpointMismatch, load_strict
from preprocess.tracking.motion_code.encoder import MotionEncoder, read_weights


def bits(tensor: torch.Tensor) -> tuple:
    """Type, shape and every bit."""
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_everything_is_read_bit_for_bit_and_the_source_text_is_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w').write('executed')\nclass Generator: pass\n"
    with official_names() as plain:
        module = small_module(plain)
        expected = module.state_dict()
        path = save_official(
            tmp_path / "a.pkl", {"G": module, "D": None, "G_ema": module}, source=source, protocol=protocol
        )
        assert source.encode()[:30] in path.read_bytes()
        file = read_official(path)
    assert not mark.exists()
    network = file.networks["G_ema"]
    assert list(network.tensors) == list(expected)  # also: without "scratch", which is not persistent, and "absent"
    for name, tensor in expected.items():
        assert bits(network.tensors[name].read()) == bits(tensor), name
    assert network.parameters == {"backbone.weight", "decoder.net.0.bias"}
    assert network.class_name == "Generator" and network.modules["flame"] == "FLAME"
    assert network.modules["activation"] == "Softplus"
    assert network.init_kwargs == {"z_dim": 512} and network.init_args == ()
    assert network.rendering_kwargs == {"box_warp": 1.3, "pivot": [0, 0, 0.2], "scale": np.float32(0.1)}
    assert np.array_equal(network.attributes["mask"], np.arange(12.0).reshape(3, 4))
    assert network.attributes["dtype"] == "torch.float32"
    assert file.entries == {
        "training_set_kwargs": {"path": "data.zip", "resolution": 512},
        "D": None,
        "augment_pipe": None,
    }
    assert not file.num_trailing_bytes


def test_the_source_text_would_have_left_a_file(tmp_path: Path) -> None:
    """The check above must not pass because its text is harmless."""
    mark = tmp_path / "ran"
    exec(f"open({str(mark)!r}, 'w').write('executed')\n")
    assert mark.exists()


def test_files_of_numpy_1_and_of_zipped_storages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files name numpy's modules otherwise; storages may come in either format of torch.save."""

    def reduce(storage: torch.storage.TypedStorage) -> tuple:
        stream = io.BytesIO()
        torch.save(storage, stream, _use_new_zipfile_serialization=True)
        return torch.storage._load_from_bytes, (stream.getvalue(),)

    monkeypatch.setattr(torch.storage.TypedStorage, "__reduce__", reduce)
    with official_names() as plain:
        module = small_module(plain)
        expected = module.state_dict()
        path = save_official(tmp_path / "a.pkl", {"G_ema": module}, protocol=2)
    data = path.read_bytes()
    assert b"PK\x03\x04" in data and b"cnumpy._core.multiarray\n" in data
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    network = read_official(path).networks["G_ema"]
    assert {name: bits(tensor.read()) for name, tensor in network.tensors.items()} == {
        name: bits(tensor) for name, tensor in expected.items()
    }
    assert np.array_equal(network.attributes["mask"], np.arange(12.0).reshape(3, 4))


def test_names_of_official_dumps_are_known(shared: Path) -> None:
    """`stubs MR` stood for the rasteriser of pytorch3d when the dumps were made; real files name that."""
    dumps = json.loads((shared / "spec/manifests/pickle_globals.json").read_text())
    names = {tuple(name.split()) for found in dumps.values() for name in found} - {("stubs", "MR")}
    names |= {("pytorch3d.renderer.mesh.rasterizer", kind) for kind in ("MeshRasterizer", "RasterizationSettings")}
    names |= {("numpy.core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar")}
    names |= {(home, name) for name, home in PLAIN_CLASSES.items()}
    assert len(names) > 40
    assert not [name for name in names if find_official(*name) is None]
    refused = [
        ("stubs", "MR"),
        ("os", "system"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("models", "a.b"),
        ("numpy", "load"),
    ]
    assert not [name for name in refused if find_official(*name) is not None]


def _round_trip(shared: Path, folder: Path, family: str, letter: str) -> None:
    """Official pickle -> our folder -> official state dict, against the manifest."""
    manifest, meta = load_manifest(shared, f"{family}.{letter}")
    key, network = ("G_ema", "generator") if letter == "G" else ("D", "discriminator")
    with official_names() as plain:
        module = module_from_manifest(manifest, meta, plain, seed=5)
        expected = {name: bits(tensor) for name, tensor in module.state_dict().items()}
        path = save_official(folder / "network.pkl", {key: module})
    assert set(expected) == set(manifest)
    conversion = convert_file(path, network=network)
    assert conversion.notes == ()
    own = {name for name in manifest if not is_resample_filter(name) and name != LABEL_STD}
    assert set(conversion.tensors) == own
    write_checkpoint(folder / "own", conversion.config, conversion.tensors)
    config, tensors = read_checkpoint(folder / "own")
    assert set(tensors) == own
    official = to_official(config, tensors)
    assert {name: bits(tensor) for name, tensor in official.items()} == expected
    assert config.network == network and config.official["init_kwargs"] == meta["init_kwargs"]["kwargs"]


@pytest.mark.parametrize(
    ("family", "letter"),
    [
        ("eg3d_ffhq512", "G"),
        ("eg3d_ffhq512", "D"),
        ("genhead_ffhq512", "G"),
        ("genhead_ffhq512", "D"),
        ("portrait4d", "D"),
        pytest.param("portrait4d", "G", marks=pytest.mark.slow),  # writes 3 GB
    ],
)
def test_conversion_there_and_back(shared: Path, tmp_path: Path, family: str, letter: str) -> None:
    _round_trip(shared, tmp_path, family, letter)


def test_the_portrait4d_structure_is_the_manifest(shared: Path) -> None:
    """What the slow test shows with numbers, without them."""
    manifest, _ = load_manifest(shared, "portrait4d.G")
    tensors = {
        name: torch.empty(
            [7 if n is None else n for n in entry["shape"]], dtype=getattr(torch, entry["dtype"]), device="meta"
        )
        for name, entry in manifest.items()
        if not is_resample_filter(name) and name != LABEL_STD
    }
    check_structure("portrait4d.generator", tensors)
    tensors["encoder_detail.encoder.0.weight"] = torch.empty(64, 5, 7, 5, device="meta")
    del tensors["w_avg"]
    with pytest.raises(CheckpointMismatch, match="w_avg") as refusal:
        check_structure("portrait4d.generator", tensors)
    assert refusal.value.missing == ["w_avg"] and len(refusal.value.misshapen) == 1


@pytest.mark.parametrize("is_zip", [True, False])
def test_motion_encoder_of_both_torch_formats(shared: Path, tmp_path: Path, is_zip: bool) -> None:
    manifest, _ = load_manifest(shared, "pdfgc_fanencoder")
    tensors = random_tensors(manifest)
    extra = {"mouth_fc.0.weight": torch.ones(2), "classifier.bias": torch.ones(1), "to_feature.weight": torch.ones(3)}
    path = tmp_path / "motion_model.pth"
    torch.save({**tensors, **extra}, path, _use_new_zipfile_serialization=is_zip)
    conversion = convert_file(path)
    assert (conversion.config.family, conversion.config.network) == ("motion-encoder", "encoder")
    assert all(name in conversion.notes[0] for name in extra)
    assert {name: bits(tensor.read()) for name, tensor in conversion.tensors.items()} == {
        name: bits(tensor) for name, tensor in tensors.items()
    }
    ours = read_torch_file(memoryview(path.read_bytes()), path.name)
    theirs = torch.load(path, weights_only=True)
    assert {name: bits(tensor.read()) for name, tensor in ours.items()} == {name: bits(t) for name, t in theirs.items()}
    write_checkpoint(tmp_path / "converted", conversion.config, conversion.tensors)
    assert {name: bits(tensor) for name, tensor in read_weights(path).items()} == {
        name: bits(tensor) for name, tensor in read_weights(tmp_path / "converted").items()
    }
    MotionEncoder.from_tensors(read_checkpoint(tmp_path / "converted")[1], name="converted")
    torch.save({**tensors, "unknown.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointMismatch, match=r"1 extra: unknown\.weight"):
        convert_file(path)


def test_strided_tensors_read_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    views = {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "every_second": base[::2, 1:4, ::3],
        "expanded": base[:1, :, :1].expand(1, 5, 2),
        "scalar": base[1, 2, 3],
        "empty": base[:, :0],
        "brain": base.bfloat16(),
    }
    for is_zip in (True, False):
        stream = io.BytesIO()
        torch.save(views, stream, _use_new_zipfile_serialization=is_zip)
        found = read_torch_file(memoryview(stream.getvalue()), "file")
        for name, tensor in views.items():
            assert torch.equal(found[name].read(), tensor) and found[name].dtype == tensor.dtype, name


def test_another_kernel_is_refused(shared: Path, tmp_path: Path) -> None:
    manifest, meta = load_manifest(shared, "eg3d_ffhq512.D")
    with official_names() as plain:
        module = module_from_manifest(manifest, meta, plain)
        module.state_dict()["b64.conv1.resample_filter"][0, 0] += 2**-20
        path = save_official(tmp_path / "a.pkl", {"D": module})
    with pytest.raises(InputError, match=r"b64\.conv1\.resample_filter"):
        convert_file(path, network="discriminator")


def _eg3d_file(
    shared: Path, path: Path, *, plane_axes: torch.Tensor | None = None, rendering: dict[str, Any] | None = None
) -> Path:
    manifest, meta = load_manifest(shared, "eg3d_ffhq512.G")
    with official_names() as plain:
        module = module_from_manifest(manifest, meta, plain, seed=2)
        module.__dict__["rendering_kwargs"].update(rendering or {})
        if plane_axes is not None:
            renderer = Module()
            renderer.__dict__["plane_axes"] = plane_axes
            module.add_module("renderer", renderer)
        return save_official(path, {"G_ema": module})


def test_a_converted_eg3d_file_fills_our_generator(shared: Path, tmp_path: Path) -> None:
    """The module's own rendering options count, not those of the constructor; every tensor finds its place."""
    path = _eg3d_file(shared, tmp_path / "a.pkl", rendering={"ray_end": 3.5, "depth_resolution": 96})
    config, tensors = resolve_weights(path)
    assert config.box_warp == 1.0 and config.camera_axes == "opencv" and config.plane_layout == "eg3d"
    assert config.official["init_kwargs"]["rendering_kwargs"]["ray_end"] == 3.3
    architecture = EG3DConfig.from_dict(config.architecture)
    assert (architecture.render.far, architecture.render.num_coarse, architecture.neural_resolution) == (3.5, 96, 128)
    with torch.device("meta"):
        generator = EG3DGenerator(architecture)
    generator.to_empty(device="cpu")
    load_strict(generator, tensors)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in generator.state_dict().items())
    del tensors["decoder.net.0.bias"]
    with pytest.raises(CheckpointMismatch, match=r"1 missing: decoder\.net\.0\.bias"):
        load_strict(generator, tensors)


@pytest.mark.parametrize(
    ("stored_axes", "layout"),
    [
        (
            [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]],
            "eg3d",
        ),
        (
            [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]],
            "orthogonal",
        ),
        (
            [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]],
            None,
        ),
    ],
)
def test_planes_follow_the_axes_in_the_file(
    shared: Path, tmp_path: Path, stored_axes: list, layout: str | None
) -> None:
    """Official code has xy, xz, zx; copies with the mistake repaired store others, and some are not known here."""
    axes = torch.tensor(stored_axes, dtype=torch.float32)
    point = torch.tensor([[2.0, 3.0, 5.0]])
    projected = [(point @ torch.linalg.inv(plane))[0, :2].tolist() for plane in axes]  # what the official code does
    names = {"eg3d": [[2, 3], [2, 5], [5, 2]], "orthogonal": [[2, 3], [3, 5], [5, 2]], None: [[2, 3], [2, 5], [5, 3]]}
    assert projected == names[layout]
    path = _eg3d_file(shared, tmp_path / "a.pkl", plane_axes=axes)
    if layout is None:
        with pytest.raises(InputError, match="planes are xy, xz, zy"):
            convert_file(path)
        return
    config = convert_file(path).config
    assert config.plane_layout == config.architecture["plane_layout"] == layout


def test_options_that_are_not_eg3d_s_are_refused(shared: Path, tmp_path: Path) -> None:
    for options, said in (
        ({"superresolution_module": "os.system"}, "expected a super-resolution module"),
        ({"box_warp": "large"}, "box_warp"),
        ({"clamp_mode": "relu"}, "clamp_mode"),
    ):
        with pytest.raises(InputError, match=said):
            convert_file(_eg3d_file(shared, tmp_path / "a.pkl", rendering=options))


def test_a_discriminator_takes_the_family_of_its_generator(shared: Path, tmp_path: Path) -> None:
    """GenHead's and Portrait4D's are the same network."""
    manifest, meta = load_manifest(shared, "portrait4d.D")
    marks = ("encoder_global.encoder.conv1.weight", "generator_triplane.conv_last.weight")
    with official_names() as plain:
        discriminator = module_from_manifest(manifest, meta, plain)
        generator = module_from_manifest(
            {name: {"shape": [1], "dtype": "float32", "kind": "param"} for name in marks}, meta, plain
        )
        path = save_official(tmp_path / "a.pkl", {"D": discriminator, "G_ema": generator})
    assert convert_file(path, network="discriminator").config.family == "portrait4d"
    report = inspect_file(path)
    assert [(network.key, network.family) for network in report.networks] == [
        ("D", "portrait4d"),
        ("G_ema", "portrait4d"),
    ]
    assert any(
        "not those of the released portrait4d.generator" in line for line in report.suspicious
    )  # the generator is a mere stump


def test_inspection_finds_numbers_that_are_not_finite(shared: Path, tmp_path: Path) -> None:
    manifest, meta = load_manifest(shared, "eg3d_ffhq512.D")
    with official_names() as plain:
        module = module_from_manifest(manifest, meta, plain)
        path = save_official(tmp_path / "a.pkl", {"D": module})
        assert inspect_file(path).suspicious == ("lacks G, G_ema, which official files have",)
        module.state_dict()["b4.out.bias"][3] = torch.nan
        path = save_official(tmp_path / "b.pkl", {"D": module})
    with path.open("ab") as stream:
        stream.write(b"behind")
    suspicious = inspect_file(path).suspicious
    assert "D: b4.out.bias holds numbers that are not finite" in suspicious
    assert any("6 bytes lie behind" in line for line in suspicious)
