"""Whether the fast operations of a Portrait4D frame change it: against torch's own and against double precision.

    python benchmarks/same_output.py [--publish]

At full size, with the generated weights and inputs of a reference fixture; encoded, animated and drawn at 128.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor

from material import ROOT, conclude, shared_folder, table

sys.path.insert(0, str(ROOT))

from flame.geometry.camera import Camera
from golden import Fixture
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor

NOTE = """Goal: the same output up to 1e-4 of its spread, as for the reference tensors of networks; rendered features,
as there, up to 5e-4 and 1e-5 in the mean, since importance sampling is discontinuous.

`fast` is what a CPU computes: Winograd's convolutions, planes read in one pass. `torch` is what defines it, `other
torch` the same without oneDNN, `double` the same in float64. All numbers are divided by the output's standard
deviation."""

Frame = dict[str, Tensor]


def frame(network: Reconstructor, fixture: Fixture, dtype: torch.dtype) -> Frame:
    """All that is worth comparing of one frame."""
    image, source, driver = (fixture.input(name).to(dtype) for name in ("img_app", "motion_app", "motion_mot"))
    camera = Camera.from_label25(fixture.input("c"), axes="opengl").to("cpu", dtype)
    features = network.encode(image, source)
    planes = network.animate(features, driver)
    seen = network.render(planes, features, camera)
    return {"planes": planes.features, "rendered features": seen.features, "picture": seen.image}


def frames() -> dict[str, Frame]:
    """The frame in each way; compiled operations step back where gradients are enabled."""
    fixture = Fixture.load(shared_folder(), "p4d_recon_full")
    config = ReconstructorConfig.from_official(fixture.about["kwargs"], neural_rendering_resolution=128)
    network = Reconstructor(config)
    fixture.fill(network)
    network.requires_grad_(False)
    ways: dict[str, list[Callable[[], AbstractContextManager]]] = {
        "fast": [torch.no_grad],
        "torch": [torch.enable_grad],
        "other torch": [torch.enable_grad, lambda: torch.backends.mkldnn.flags(enabled=False)],
        "double": [torch.no_grad],
    }
    made = {}
    for name, contexts in ways.items():
        print(f"{name} ...", flush=True)
        dtype = torch.float64 if name == "double" else torch.float32
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            made[name] = frame(network.to(dtype), fixture, dtype)
    return made


def main() -> None:
    """Makes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    made, rows = frames(), []
    pairs = [("fast", "torch"), ("other torch", "torch"), ("fast", "double"), ("torch", "double")]
    for output, reference in made["double"].items():
        for one, other in pairs:
            error = (made[one][output].double() - made[other][output].double()).abs() / reference.std()
            above = float((error > 1e-4).double().mean())
            numbers = [f"{value:.1e}" for value in (error.mean(), error.max())]
            rows.append([output, f"{one} - {other}", *numbers, f"{100 * above:.3f} %"])
    header = ["output", "difference", "mean", "max", "above 1e-4"]
    text = "\n\n".join(["## Portrait4D: the same output", NOTE, table(header, rows)])
    conclude("same-output", text, rows, is_published=options.publish)


if __name__ == "__main__":
    main()
