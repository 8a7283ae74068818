"""Writes pickles in the official format: classes of ours with the layout of the originals, and source text that would
leave a file behind if anyone executed it."""

import contextlib
import json
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

PLAIN_CLASSES = {
    "FLAME": "models.FLAME.DecaFLAME",
    "MeshRenderer": "training.deformer.mesh_renderer",
    "BasicBlock": "torchvision.models.resnet",
    "ResNetEncoder": "segmentation_models_pytorch.encoders.resnet",
}
"""Classes that the originals refer to by import path instead of by source text."""


class EasyDict(dict):
    """Pickled under the originals' name."""


def _rebuild(meta: dict) -> Any:
    raise AssertionError("the reader must never call the original")


class Module(torch.nn.Module):
    """A module that is pickled as the originals pickle theirs."""

    class_name = "Module"
    source = ""

    def __reduce__(self) -> tuple:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": type(self).source,
            "class_name": self.class_name,
            "state": {key: value for key, value in self.__dict__.items() if key != "class_name"},
        }
        return _rebuild, (meta,)


@contextlib.contextmanager
def official_names() -> Iterator[dict[str, type]]:
    """While it lasts, our classes carry the originals' names; gives the classes referred to by path."""
    before = dict(sys.modules)
    homes: dict[str, dict[str, Any]] = {
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _rebuild},
        "dnnlib.util": {"EasyDict": EasyDict},
    }
    plain = {}
    for name, home in PLAIN_CLASSES.items():
        plain[name] = type(name, (torch.nn.Module,), {"__module__": home})
        homes.setdefault(home, {})[name] = plain[name]
    for home, content in homes.items():
        parts = home.split(".")
        for count in range(1, len(parts) + 1):
            sys.modules[".".join(parts[:count])] = types.ModuleType(".".join(parts[:count]))
        for name, value in content.items():
            value.__module__, value.__qualname__, value.__name__ = home, name, name
            setattr(sys.modules[home], name, value)
    try:
        yield plain
    finally:
        sys.modules.clear()
        sys.modules.update(before)


def build_module(
    tensors: dict[str, torch.Tensor],
    parameters: set[str],
    *,
    class_names: dict[str, str],
    plain: dict[str, type],
    init_kwargs: dict[str, Any],
) -> Module:
    """A tree of modules whose state dict is `tensors`."""

    def make(path: str) -> torch.nn.Module:
        name = class_names.get(path, "Module")
        if name in plain:
            return plain[name]()
        module = Module()
        module.class_name = name
        return module

    root = make("")
    assert isinstance(root, Module)
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        module: torch.nn.Module = root
        for depth, part in enumerate(path):
            if not hasattr(module, part):
                module.add_module(part, make(".".join(path[: depth + 1])))
            module = getattr(module, part)
        if name in parameters:
            module.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(leaf, tensor)
    root.__dict__.update(_init_args=(), _init_kwargs=EasyDict(init_kwargs))
    return root.eval()


def random_tensors(manifest: dict[str, dict], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random values in the shapes of a manifest; 7 for dimensions that it leaves open; FIR buffers as they are."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    result = {}
    for name, entry in manifest.items():
        shape = [7 if length is None else length for length in entry["shape"]]
        if name.endswith("resample_filter"):
            result[name] = torch.outer(row, row) / 64
        elif entry["dtype"] == "float32":
            result[name] = torch.randn(shape, generator=generator)
        elif entry["dtype"] == "bool":
            result[name] = torch.rand(shape, generator=generator) > 0.5
        else:
            result[name] = torch.randint(0, 5000, shape, generator=generator)
    return result


def load_manifest(shared: Path, name: str) -> tuple[dict[str, dict], dict[str, Any]]:
    """A manifest and its meta file of the reference material."""
    folder = shared / "spec/manifests"
    manifest = json.loads((folder / f"{name}.json").read_text())
    return manifest, json.loads((folder / f"{name}.meta.json").read_text())


def module_from_manifest(
    manifest: dict[str, dict], meta: dict[str, Any], plain: dict[str, type], *, seed: int = 0
) -> Module:
    """A network of random numbers with the names, shapes, classes and arguments of an official one."""
    parameters = {name for name, entry in manifest.items() if entry["kind"] == "param"}
    kwargs = meta["init_kwargs"].get("kwargs", {})
    module = build_module(
        random_tensors(manifest, seed=seed), parameters, class_names=meta["modules"], plain=plain, init_kwargs=kwargs
    )
    if "rendering_kwargs" in kwargs:
        module.__dict__.update(
            rendering_kwargs=EasyDict(kwargs["rendering_kwargs"]),
            neural_rendering_resolution=128,
            mask=np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
        )
    return module


def save_official(
    path: Path, networks: dict[str, Any], *, source: str = "", protocol: int = pickle.DEFAULT_PROTOCOL
) -> Path:
    """Write a pickle as the originals' training loops do; call it inside `official_names`."""
    Module.source = source
    content = {"training_set_kwargs": {"path": "data.zip", "resolution": 512}, **networks, "augment_pipe": None}
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol=protocol)
    return path


def small_module(plain: dict[str, type]) -> Module:
    """A few tensors of every kind that the reader must know."""
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(6, 8, generator=generator)
    tensors = OrderedDict(
        {
            "backbone.weight": base,
            "backbone.view": base.t()[2:5],  # strided, with an offset, sharing its storage
            "backbone.scalar": torch.tensor(-0.0),
            "decoder.net.0.bias": torch.randn(5, generator=generator).half(),
            "flame.faces": torch.arange(12).reshape(4, 3),
            "flame.mask": torch.tensor([True, False, True]),
            "empty": torch.zeros(0, 3),
        }
    )
    parameters = {"backbone.weight", "decoder.net.0.bias"}
    module = build_module(
        tensors, parameters, class_names={"": "Generator", "flame": "FLAME"}, plain=plain, init_kwargs={"z_dim": 512}
    )
    module.__dict__.update(
        rendering_kwargs=EasyDict(box_warp=1.3, pivot=[0, 0, 0.2], scale=np.float32(0.1)),
        mask=np.arange(12.0).reshape(3, 4),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    module.register_buffer("scratch", torch.ones(3), persistent=False)
    module.register_parameter("absent", None)
    module.activation = torch.nn.Softplus()
    return module
