"""Convert the face networks of the mediapipe 0.10.21 wheel to the safetensors files in `preprocess/assets`.

    pip download --no-deps mediapipe==0.10.21      # any platform's wheel will do
    python scripts/convert_mediapipe.py mediapipe-0.10.21-*.whl

Reads the `.tflite` files (flatbuffers; schema: tensorflow/lite/schema/schema.fbs) straight from the wheel,
hands their convolutions and PReLU slopes to our torch modules in order of execution, and writes float16, as the
originals store them. Needs only the core dependencies. The wheel's LICENSE is copied beside the weights.
"""

import argparse
import hashlib
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from flame.landmarks.attention_mesh import EYE_LEFT, EYE_RIGHT, LIPS
from preprocess.faces.networks.face_detector import FaceDetectorNetwork
from preprocess.faces.networks.face_mesh import FaceMeshNetwork
from preprocess.faces.networks.portrait_matte import PortraitMatteNetwork

ASSETS = Path(__file__).resolve().parent.parent / "preprocess" / "assets"
SOURCES = {
    "face_detector": ("mediapipe/modules/face_detection/face_detection_short_range.tflite", FaceDetectorNetwork),
    "face_mesh": ("mediapipe/modules/face_landmark/face_landmark_with_attention.tflite", FaceMeshNetwork),
    "portrait_matte": ("mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite", PortraitMatteNetwork),
}
# numbers of the TensorFlow Lite schema
CONV, DEPTHWISE, DEQUANTIZE, CUSTOM, PRELU = 3, 4, 6, 32, 54
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}


@dataclass(frozen=True)
class Table:
    """A flatbuffer table: `buffer` from `position`; fields are looked up by their number in the schema."""

    buffer: bytes
    position: int

    def field(self, number: int) -> int | None:
        """Returns the position of a field, or None if it is absent."""
        vtable = self.position - struct.unpack_from("<i", self.buffer, self.position)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", self.buffer, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", self.buffer, vtable + 4 + 2 * number)[0]
        return self.position + offset if offset else None

    def number(self, number: int, kind: str) -> int:
        """Returns a scalar field, 0 if absent; `kind` is the `struct` letter."""
        where = self.field(number)
        return 0 if where is None else struct.unpack_from("<" + kind, self.buffer, where)[0]

    def array(self, number: int, dtype: str) -> np.ndarray:
        """Returns a vector of scalars."""
        where = self.field(number)
        if where is None:
            return np.zeros(0, dtype)
        start = _follow(self.buffer, where)
        return np.frombuffer(self.buffer, dtype, struct.unpack_from("<I", self.buffer, start)[0], start + 4)

    def tables(self, number: int) -> list["Table"]:
        """Returns a vector of tables."""
        where = self.field(number)
        if where is None:
            return []
        start = _follow(self.buffer, where)
        count = struct.unpack_from("<I", self.buffer, start)[0]
        return [Table(self.buffer, _follow(self.buffer, start + 4 + 4 * index)) for index in range(count)]


@dataclass(frozen=True)
class Operator:
    """One node of the graph: its builtin code, the numbers of its input tensors, its custom options."""

    code: int
    inputs: list[int]
    outputs: list[int]
    options: bytes


class Graph:
    """The first subgraph of a `.tflite` file."""

    def __init__(self, buffer: bytes):
        model = Table(buffer, _follow(buffer, 0))
        subgraph = model.tables(2)[0]
        codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
        self._buffers, self._tensors = model.tables(4), subgraph.tables(0)
        self.operators = [
            Operator(
                codes[node.number(0, "I")],
                node.array(1, "<i4").tolist(),
                node.array(2, "<i4").tolist(),
                node.array(5, "u1").tobytes(),
            )
            for node in subgraph.tables(3)
        ]
        self._stored_as = {op.outputs[0]: op.inputs[0] for op in self.operators if op.code == DEQUANTIZE}

    def constant(self, tensor: int) -> Tensor:
        """Returns a constant tensor; the float16 original where the graph widens it first."""
        table = self._tensors[self._stored_as.get(tensor, tensor)]
        dtype = DTYPES[table.number(1, "b")]
        values = self._buffers[table.number(2, "I")].array(0, "u1").tobytes()
        return torch.from_numpy(np.frombuffer(values, dtype).reshape(table.array(0, "<i4").tolist()).copy())


def _follow(buffer: bytes, where: int) -> int:
    return where + struct.unpack_from("<I", buffer, where)[0]


def convolutions(graph: Graph) -> list[tuple[Tensor, Tensor]]:
    """Returns weights `[out, in, k, k]` and biases `[out]` in order of execution."""
    found = []
    for operator in graph.operators:
        is_transposed = operator.code == CUSTOM and len(operator.inputs) == 3  # Convolution2DTransposeBias
        if operator.code not in (CONV, DEPTHWISE) and not is_transposed:
            continue
        weight, bias = graph.constant(operator.inputs[1]), graph.constant(operator.inputs[2])
        if is_transposed:  # [1, 2, 2, in], stride 2: a 1x1 convolution to the four pixels
            found.append((weight.reshape(4, -1, 1, 1), bias.repeat(4)))
        else:
            found.append((weight.permute((0, 3, 1, 2) if operator.code == CONV else (3, 0, 1, 2)), bias))
    return found


def slopes(graph: Graph) -> list[Tensor]:
    """Returns PReLU slopes `[channels]` in order of execution."""
    return [graph.constant(op.inputs[1]).reshape(-1) for op in graph.operators if op.code == PRELU]


def fill(network: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """Returns the state dict of `network` with the weights of `graph`.

    Modules are defined in the order in which the graph runs them. The branches of a grouped layer are separate
    operators there, which are taken until the channels are full.
    """
    convs, prelus = convolutions(graph), slopes(graph)
    state: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            parts = _take(convs, module.out_channels)
            weight = torch.cat([weight for weight, _ in parts])
            extra = module.kernel_size[0] - weight.shape[-1]  # one for SameConv with a stride of two
            state[f"{name}.weight"] = functional.pad(weight, (extra, 0, extra, 0))
            state[f"{name}.bias"] = torch.cat([bias for _, bias in parts])
        elif isinstance(module, nn.PReLU):
            state[f"{name}.weight"] = torch.cat([slope for slope in _take(prelus, module.num_parameters)])
    if convs or prelus:
        raise ValueError(f"{len(convs)} convolutions and {len(prelus)} PReLUs of the graph have no place in the module")
    network.load_state_dict(state, strict=True)
    return {key: value.to(torch.float16).contiguous() for key, value in state.items()}


def _take(queue: list, channels: int) -> list:
    taken = []
    while channels > 0:
        part = queue.pop(0)
        channels -= len(part[-1]) if isinstance(part, tuple) else len(part)
        taken.append(part)
    return taken


def check_point_tables(graph: Graph) -> None:
    """Refuses a mesh whose refined points differ from `mesh_indices` (vectors of int16 in the custom options)."""
    options = [op.options for op in graph.operators if op.code == CUSTOM and b"subset_idxs" in op.options]
    for table, found in zip((LIPS, EYE_RIGHT, EYE_LEFT), options, strict=True):
        if np.array([len(table), *table], "<i2").tobytes() not in found:
            raise ValueError("the refined points of this face mesh are not those of mesh_indices.py")


def convert(wheel: Path, folder: Path) -> list[Path]:
    """Writes the three networks and the licence of `wheel` to `folder`; returns the files."""
    written = []
    with zipfile.ZipFile(wheel) as archive:
        for name, (member, network) in SOURCES.items():
            content = archive.read(member)
            graph = Graph(content)
            if name == "face_mesh":
                check_point_tables(graph)
            digest = hashlib.sha256(content).hexdigest()
            provenance = f"mediapipe 0.10.21, {member}, sha256 {digest}, Apache-2.0"
            path = folder / f"{name}.safetensors"
            # one entry only: safetensors writes several in random order
            save_file(fill(network(), graph), path, metadata={"source": provenance})
            written.append(path)
        licence = folder / "MEDIAPIPE_LICENSE.txt"
        licence.write_bytes(archive.read("mediapipe-0.10.21.dist-info/LICENSE"))
        written.append(licence)
    return written


def main() -> None:
    """Converts the networks of the wheel that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    for path in convert(arguments.wheel, arguments.output):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
