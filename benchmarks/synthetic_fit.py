"""How near the batched fit comes to truth, and to the least error that the landmarks allow.

    python benchmarks/synthetic_fit.py [--quick] [--publish]

Truth is drawn as `benchmarks/synthetic_faces.py` says and seen with 1 px of noise in x, y and depth. The bound is the
covariance of the posterior, linear at the truth and normal: landmarks' derivatives at truth, and priors with the second
moments of the truth. Limits and sparsity of expressions tell more than it knows, so expressions can be better than it.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from flame.heads.flame import load_flame
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from material import conclude, table
from preprocess.fitting.batched.fit import BatchFit, BatchFitter
from preprocess.fitting.batched.residuals import BatchState
from preprocess.fitting.config import FitConfig, active_expressions
from synthetic_faces import SyntheticFaces, synthetic_faces
from synthetic_flame import write_synthetic_flame

HEADER = ["head, prior", "frames a person", "pose °, mean", "max", "bound", "expression r", "bound", "of vertices",
          "identity mm", "bound", "steps", "CPU s"]  # fmt: skip

NOTE = """64 pictures in one call, 1 px of noise in x, y and depth. `expression r` is Pearson's correlation over all
active coefficients of all pictures, `of vertices` that of the displacements they make on the face; `identity` the mean
distance of the face's vertices at rest, nothing aligned. `noise` is `FitConfig.for_noise(model, 1.0)` (heads as
different as the population), `tracker` the default for real trackers (heads 0.4 times as different), which takes
landmarks for far less precise than these are. Truth: each mirrored pair of actions and each action of the middle is on
with probability 0.2, with a strength of 0.2 to 1, both sides within 15 %, no opposed actions together; heads turn up to
20 degrees about each axis (`benchmarks/synthetic_faces.py`). Bounds are root mean squares of a normal posterior; limits
and sparsity, which it does not know, make expressions better than their bound. One photo hardly tells a large head
from a far one: that is most of the identity's error. The synthetic FLAME has 53 of the tracker's landmarks, too few
for its 220 smooth random directions: with `noise`, its pose and expression are at their bounds.
"""


def make_flame(folder: str) -> HeadModel:
    """The synthetic FLAME-shaped model of the reference material."""
    return load_flame(write_synthetic_flame(folder))


def bound(model: HeadModel, config: FitConfig, faces: SyntheticFaces, people: Tensor) -> tuple[float, float, Tensor]:
    """Least pose error (degrees), largest correlation, and the shapes' covariances `[N, K, K]`."""
    sharp = replace(FitConfig.for_noise(model, 1.0), shape_sigma=config.shape_sigma)
    residuals = BatchFitter(model, config=sharp, dtype=torch.float64).residuals
    own = own_unknowns(model, config, faces)
    shape = torch.zeros(int(people.max()) + 1, residuals.num_shape, dtype=torch.float64)
    shape[people] = faces.head.shape[:, : residuals.num_shape]
    state = BatchState(own, axis_angle_to_matrix(faces.rotation), faces.translation, shape)
    target = residuals.target(faces.landmarks, people)
    hessian, _ = residuals.normal(state, target, torch.ones_like(target.weights), is_pose_only=False)
    many = own_unknowns(model, config, synthetic_faces(model, config, people=torch.arange(1000), seed=9))
    size, num_expression = own.shape[1], residuals.num_expression
    hessian[:, :size, :size] += torch.linalg.inv(many.T.cov() + 1e-6 * torch.eye(size, dtype=torch.float64))
    split = size + 6
    solved = torch.linalg.solve(hessian[:, :split, :split], hessian[:, :split, split:])
    reduced = hessian[:, split:, split:] - hessian[:, split:, :split] @ solved
    precision = torch.eye(shape.shape[1], dtype=torch.float64).repeat(len(shape), 1, 1) * config.shape_sigma**-2
    covariance = torch.linalg.inv(precision.index_add(0, people, reduced))
    own_covariance = torch.linalg.inv(hessian[:, :split, :split]) + solved @ covariance[people] @ solved.mT
    variance = own_covariance.diagonal(dim1=1, dim2=2)
    pose = float(torch.rad2deg(variance[:, size : size + 3].sum(1).mean().sqrt()))
    spread = many[:, :num_expression].var()
    return pose, float((1 - variance[:, :num_expression].mean() / spread).clamp_min(0).sqrt()), covariance


def own_unknowns(model: HeadModel, config: FitConfig, faces: SyntheticFaces) -> Tensor:
    """`[B, P]` in the order of the fit."""
    joints = {"jaw": faces.head.jaw, "eye_left": faces.head.eyes[:, 0, :2], "eye_right": faces.head.eyes[:, 1, :2]}
    parts = [faces.head.expression[:, active_expressions(model, config)], *(joints[name] for name in config.joints)]
    return torch.cat(parts, 1).double()


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's, over everything."""
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])


def measure(model: HeadModel, config: FitConfig, *, frames: int, count: int) -> list[Any]:
    """One row of the table but its name."""
    people = torch.arange(count) // frames
    faces = synthetic_faces(model, config, people=people)
    fitter = BatchFitter(model, config=config)
    started = time.process_time()
    fit: BatchFit = fitter.fit(faces.noisy(1.0), people=people)
    seconds = time.process_time() - started
    active, face = active_expressions(model, config), model.regions.get("face", torch.arange(model.num_vertices))
    turn = axis_angle_to_matrix(fit.pose.rotation.double()) @ axis_angle_to_matrix(faces.rotation).mT
    degrees = torch.rad2deg(matrix_to_axis_angle(turn).norm(dim=1))
    found, truth = fit.head.expression.double()[:, active], faces.head.expression[:, active]
    moves, shapes = model.expression_basis[face][..., active].double(), model.shape_basis[face].double()
    of_vertices = correlation(*(torch.einsum("vcp,bp->bvc", moves, part) for part in (found, truth)))
    difference = fit.head.shape.double() - faces.head.shape
    identity = torch.einsum("vcp,bp->bvc", shapes, difference).norm(dim=-1).mean() * 1000
    least_pose, best, covariance = bound(model, config, faces, people)
    shapes = shapes[..., : covariance.shape[1]]
    least = torch.stack([((shapes @ part) * shapes).sum((1, 2)).sqrt().mean() for part in covariance]).mean() * 1000
    if not fit.converged.all():
        raise SystemExit(f"{int((~fit.converged).sum())} of {count} pictures have not settled")
    return [frames, float(degrees.mean()), float(degrees.max()), least_pose, correlation(found, truth), best,
            of_vertices, float(identity), float(least), int(fit.iterations.max()), seconds]  # fmt: skip


def main() -> None:
    """Makes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    count, rows = 16 if options.quick else 64, []
    with tempfile.TemporaryDirectory() as folder:
        models = {"open head": load_open_head(), "synthetic FLAME": make_flame(folder)}
        for name, model in models.items():
            for prior, config in (("noise", FitConfig.for_noise(model, 1.0)), ("tracker", FitConfig.for_model(model))):
                for frames in (1, 8):
                    row = measure(model, config, frames=frames, count=count)
                    rows.append([f"{name}, {prior}", *row])
    text = "\n\n".join(["## Batched fit against synthetic truth", NOTE.strip(), table(HEADER, rows, digits=2)])
    conclude("synthetic-fit", text, rows, is_published=options.publish)


if __name__ == "__main__":
    main()
