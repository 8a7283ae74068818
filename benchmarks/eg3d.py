"""What an EG3D picture at 512 x 512 costs, part by part, with random weights of the released size.

python benchmarks/eg3d.py [--quick] [--device cpu] [--publish]
"""

import json
from typing import Any

from costs import device_peak_mb, make_parser, peak_memory, run_children, stage_table, time_stages
from material import conclude

GOALS = """Goals on two cores: at most 7 CPU seconds and 0.9 GB peak for a picture at 512, rendered at 128. The original
code took 10.8 to 12 CPU seconds and 1.6 GB on a machine of this kind."""


def child(*, threads: int, repeats: int, is_whole: bool, device: str) -> dict[str, Any]:
    """Times the parts, or makes a single picture."""
    import torch

    from flame.geometry.camera import Camera
    from portrait4d.eg3d.generator import EG3DGenerator
    from portrait4d.render.field import TriPlaneField
    from portrait4d.render.renderer import render
    from portrait4d.weights.eg3d_config import EG3DConfig

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    generator = EG3DGenerator(EG3DConfig()).to(device).eval().requires_grad_(False)
    config = generator.config
    camera = Camera.orbit(torch.zeros(1), torch.zeros(1), radius=2.7, target=torch.zeros(3)).to(device)
    latent = torch.randn(1, config.latent_dim, device=device)
    with torch.inference_mode():
        if is_whole:
            generator.render(generator.sample(latent, camera), camera)
            return {"device_peak_mb": device_peak_mb(device)}
        volume = generator.sample(latent, camera)
        field = TriPlaneField(volume.planes, generator.decoder)

        def volume_render(size: int) -> torch.Tensor:
            return render(field, camera, config.render, height=size, width=size).features * 2 - 1

        features = volume_render(128)
        stages = {
            "mapping": lambda: generator.map(latent, camera),
            "planes": lambda: generator.sample(latent, camera),
            "rendering at 64": lambda: volume_render(64),
            "rendering at 128": lambda: volume_render(128),
            "super-resolution": lambda: generator.superresolution(features[:, :3], features, volume.w),
            "whole picture": lambda: generator.render(generator.sample(latent, camera), camera),
            "another view": lambda: generator.render(volume, camera),
        }
        return time_stages(stages, repeats=repeats, device=device)


def report(measured: dict[str, Any]) -> str:
    """Goals, the table, the peak."""
    stages = stage_table(measured["one"], measured["two"])
    peak = f"Peak memory of a process that makes one picture: {peak_memory(measured)}."
    return "\n\n".join(["## EG3D at 512", GOALS, measured["machine"], stages, peak])


def main() -> None:
    """Starts the children."""
    parser = make_parser(__doc__)
    options = parser.parse_args()
    repeats = 1 if options.quick else 5
    if options.child:
        values = child(threads=options.threads, repeats=repeats, is_whole=options.whole, device=options.device)
        return print(json.dumps(values))
    measured = run_children(__file__, options)
    conclude("eg3d", report(measured), measured, is_published=options.publish)


if __name__ == "__main__":
    main()
