"""What a Portrait4D source and a driving frame cost, part by part, with random weights of the released size.

    python benchmarks/reconstructor.py [--quick] [--device cpu] [--precision fp32] [--publish]

(A script named portrait4d.py would hide the package from the scripts beside it.) The head that is posed is the open
head, with a part of its own mesh as the coarse one: the field costs what it costs for FLAME.
"""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from costs import device_peak_mb, make_parser, peak_memory, run_children, stage_table, time_stages
from material import conclude

if TYPE_CHECKING:
    from portrait4d.reconstructor.config import ReconstructorConfig

GOALS = """Goal: at most 12 CPU seconds per driving frame at 512, rendered at 128, in fp32. The original code, which
keeps nothing of a source, took 25 to 32 CPU seconds a frame and 3.3 GB on a machine of this kind. A shared machine is
not always equally fast: the last row tells how fast it was."""

NUM_COARSE_FACES = 1394
"""Triangles of the mesh that the released field follows."""


def child(
    *,
    threads: int,
    repeats: int,
    is_whole: bool,
    device: str,
    precision: str,
    config: "ReconstructorConfig | None" = None,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Times the parts, or makes one frame of one source.

    `gpu.py` asks for only some parts, and on a CPU of a smaller network than the released one.
    """
    import torch

    from flame.geometry.camera import Camera
    from flame.heads.head_model import HeadParams
    from flame.heads.open_head import load_open_head
    from flame.heads.pose_field import CoarseMesh, HeadPoseField
    from portrait4d.reconstructor.canonicaliser import TokenGrid
    from portrait4d.reconstructor.config import ReconstructorConfig
    from portrait4d.reconstructor.network import Reconstructor
    from portrait4d.render.planes import TriPlanes
    from portrait4d.runtime.memory import keep_freed_memory
    from preprocess.tracking.motion_code.network import MotionEncoderNetwork

    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()  # as the engine does
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    network = Reconstructor(config or ReconstructorConfig()).to(device).eval().requires_grad_(False)
    encoder = MotionEncoderNetwork().to(device).eval().requires_grad_(False)
    image = torch.rand(1, 3, 512, 512, device=device) * 2 - 1
    code, face = torch.randn(1, 548, device=device), torch.rand(1, 3, 224, 224, device=device)
    camera = Camera.orbit(torch.zeros(1), torch.zeros(1), radius=4.2, target=torch.zeros(3)).to(device)
    model = load_open_head().to(device)
    step = len(model.faces) // NUM_COARSE_FACES
    weights = torch.tensor([1.0, 0.0, 0.0], device=device).repeat(model.num_vertices, 1)
    corners = torch.arange(model.num_vertices, device=device)[:, None].repeat(1, 3)
    mesh = CoarseMesh(corners, weights, model.faces[::step][:NUM_COARSE_FACES])
    params = HeadParams.zeros(model).replace(neck=torch.tensor([[0.1, 0.2, 0.0]], device=device))

    def pose() -> HeadPoseField:
        return HeadPoseField.build(model, params, mesh, box_warp=1.3)

    autocast = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), autocast:
        source = network.encode(image, code)

        def frame() -> torch.Tensor:
            planes = network.animate(source, code)
            return network.render(planes, source, camera, pose=pose()).image

        if is_whole:
            frame()
            return {"device_peak_mb": device_peak_mb(device)}
        neutral = TokenGrid(source.tokens, source.height, source.width)
        reenacted = network.encoder_canonical.reenact(neutral, code)
        picture = network.generator_triplane(reenacted, source.detail)
        planes = TriPlanes.from_picture(picture, layout="orthogonal", box_warp=1.3)
        field, features = pose(), torch.rand(1, 32, 128, 128, device=device)
        whole_render, square = network.render, torch.rand(3684, 3684, device=device)

        stages = {
            "source, once": lambda: network.encode(image, code),
            "motion code of a frame": lambda: encoder(face),
            "Phi_re": lambda: network.encoder_canonical.reenact(neutral, code),
            "G_T": lambda: network.generator_triplane(reenacted, source.detail),
            "pose field, built": pose,
            "rendering and super-resolution": lambda: whole_render(planes, source, camera, pose=field),
            "of that super-resolution": lambda: network.superresolution(features[:, :3], features, network.w_avg),
            "driving frame": frame,
            "another view": lambda: whole_render(planes, source, camera, pose=field),
            "a matrix product of 100 GFLOP": lambda: square @ square,
        }
        wanted = {name: stage for name, stage in stages.items() if not only or name in only}
        return time_stages(wanted, repeats=repeats, device=device)


def report(measured: dict[str, Any]) -> str:
    """Goal, the table, the peak."""
    stages = stage_table(measured["one"], measured["two"])
    peak = f"Peak memory of a process that encodes a source and draws one frame: {peak_memory(measured)}."
    head = f"## Portrait4D at 512, {measured['precision']}"
    return "\n\n".join([head, GOALS, measured["machine"], stages, peak])


def main() -> None:
    """Starts the children."""
    parser = make_parser(__doc__)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    options = parser.parse_args()
    if options.child:
        values = child(
            threads=options.threads,
            repeats=1 if options.quick else 3,
            is_whole=options.whole,
            device=options.device,
            precision=options.precision,
        )
        return print(json.dumps(values))
    measured = run_children(__file__, options, "--precision", options.precision)
    measured["precision"] = f"{options.precision} on {options.device}"
    conclude("portrait4d", report(measured), measured, is_published=options.publish)


if __name__ == "__main__":
    main()
