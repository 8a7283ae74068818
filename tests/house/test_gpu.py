"""What runs on the CPU runs on CUDA with the same result. `pytest -m gpu`."""

import numpy as np
import pytest
import skimage.data
import torch

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from flame.heads.pose_field import CoarseMesh, HeadPoseField
from flame.mesh.raster import rasterize
from generated_weights import SMALL
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.gan.adversarial import r1_penalty
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.reconstructor.network import Reconstructor
from preprocess.tracking.tracker import Tracker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_rasteriser_on_cuda_equals_cpu():
    model = load_open_head()
    points = model.template * torch.tensor([1500.0, -1500.0, -1.0]) + torch.tensor([256.0, 450.0, 1.0])
    cpu = rasterize(points, model.faces, height=512, width=512)
    gpu = rasterize(points.cuda(), model.faces.cuda(), height=512, width=512, backend="torch")
    assert (cpu.face_id == gpu.face_id.cpu()).float().mean() > 0.9999
    same = cpu.face_id == gpu.face_id.cpu()
    assert (cpu.barycentric - gpu.barycentric.cpu())[same].abs().max() < 1e-3


def test_lift_on_cuda_equals_cpu():
    frames = []
    for device in ("cpu", "cuda"):
        engine = LiftEngine(device=device)
        source = Tracker(device, head_model=load_open_head()).track_image(skimage.data.astronaut())
        avatar = engine.build([source])
        drive = orbit_drive(avatar, engine.head_model, np.array([0.0, 12.0]), np.array([0.0, 5.0]))
        frames.append(engine.render(avatar, drive).image.cpu())
    assert (frames[0] - frames[1]).abs().mean() < 5e-3


def test_discriminator_on_cuda_equals_cpu():
    torch.manual_seed(0)
    network = DualDiscriminator(DualDiscriminatorConfig(resolution=64, channel_base=1024, channel_max=32))
    draw = torch.Generator().manual_seed(0)
    image, raw, label = (torch.randn(shape, generator=draw) for shape in ((4, 3, 64, 64), (4, 3, 16, 16), (4, 25)))
    found = {}
    for device in ("cpu", "cuda"):
        network.to(device)
        images = JudgedImages(image.to(device), raw.to(device))
        logits = network(images, label.to(device))
        penalty = r1_penalty(network, images, label.to(device))
        assert logits.dtype == penalty.dtype == torch.float32  # the finest blocks compute in fp16, the last in fp32
        gradient = torch.autograd.grad(penalty.sum(), network.get_parameter("b64.conv0.weight"))[0]
        found[device] = [value.detach().cpu() for value in (logits, penalty, gradient)]
    for on_cpu, on_gpu in zip(found["cpu"], found["cuda"], strict=True):
        assert (on_cpu - on_gpu).abs().max() < 0.1 * on_cpu.abs().max()


def test_pose_field_on_cuda_equals_cpu():
    model = load_open_head()
    every = torch.arange(model.num_vertices)
    mesh = CoarseMesh(every[:, None].repeat(1, 3), torch.tensor([1.0, 0, 0]).repeat(len(every), 1), model.faces[::6])
    posed = HeadParams.zeros(model).replace(neck=torch.tensor([[0.1, 0.3, -0.1]]))
    points = (torch.rand(1, 5000, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.6
    on_cpu = HeadPoseField.build(model, posed, mesh, box_warp=0.6)(points)
    on_gpu = HeadPoseField.build(model.to("cuda"), posed.to("cuda"), mesh.to("cuda"), box_warp=0.6)(points.cuda())
    apart = (on_cpu - on_gpu.cpu()).abs().amax(-1)
    assert (on_cpu - points).abs().mean() > 1e-3
    assert apart.median() < 1e-5 and (apart < 1e-3).float().mean() > 0.98  # the last bit decides ties of nearest edges


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_reconstructor_on_cuda_equals_cpu(dtype: torch.dtype, tolerance: float):
    """fp32 without TF32, and autocast to bf16; mean difference in units of the output's spread."""
    torch.manual_seed(0)
    network = Reconstructor(SMALL).eval().requires_grad_(False)
    image, code = torch.rand(1, 3, 512, 512) * 2 - 1, torch.randn(1, 548)
    camera = Camera.orbit(torch.zeros(1), torch.zeros(1), radius=4.2, target=torch.zeros(3))
    found = {}
    for device in ("cpu", "cuda"):
        network.to(device)
        is_half = device == "cuda" and dtype != torch.float32
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=is_half):
            source = network.encode(image.to(device), code.to(device))
            planes = network.animate(source, code.to(device))
            seen = network.render(planes, source, camera.to(device))
        found[device] = [value.float().cpu() for value in (planes.features, seen.image)]
    for on_cpu, on_gpu in zip(found["cpu"], found["cuda"], strict=True):
        assert (on_cpu - on_gpu).abs().mean() < tolerance * on_cpu.std()
