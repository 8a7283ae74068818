"""How much sooner the batched fit reaches a loss than Adam, which Portrait4D's preprocessing uses, on one objective.

    python benchmarks/batch_fit.py [--quick] [--publish]

64 heads drawn from the open head's prior, their 478 landmarks with 1 px of noise, no depths, no outliers, limits by
clamping; both begin with the same pose. The loss is the sum over all images, in squared standard deviations; "there"
means within 0.1 % of the loss that the batched fit ends at. `released` is the schedule of the released code: learning
rate 0.001, 1500 steps for the pose, then 3000 for everything, here as many more as it takes; with `whole mesh` a step
poses all vertices, as there, on the very same way (the time of a step is measured over a few), else landmarks only.
`tuned` are fairer rivals: the best of a few learning rates, with and without the steps for the pose alone. One thread.
"""

import argparse
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adam_schedule import STAGES, AdamRun, AutomaticObjective, MeshObjective, Start, Unknowns, run_adam
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from lift import processor
from material import conclude, table
from preprocess.fitting.batched import fit as batch_fit
from preprocess.fitting.batched.objective import Objective
from preprocess.fitting.batched.residuals import BatchState
from preprocess.fitting.batched.start import rigid_starts
from preprocess.fitting.config import FitConfig
from synthetic_faces import synthetic_faces

GOALS = "Goal: at least 50 times less time to the same loss than the released schedule."
NUM_HEADS, NOISE_PX = 64, 1.0
MARGIN = 1.001
RELEASED_RATE = 1e-3
LOSS_COLUMN = "loss after 4500 steps / ours"
_LONGEST = 30000
TUNED = (0.005, 0.01, 0.02, 0.05)
_TIMED_STEPS = 20


@dataclass(frozen=True)
class Problem:
    """Landmarks, and the same objective in both forms.

    Attributes:
        fitter: the batched fit. landmarks: `[B, 478, 3]` crop px, what it gets.
        objective: what it lowers, for these images.
        points, mesh: the objective of Adam over landmarks alone, and over the whole mesh.
    """

    fitter: batch_fit.BatchFitter
    landmarks: Tensor
    objective: Objective
    points: AutomaticObjective
    mesh: AutomaticObjective


def make_problem(model: HeadModel, num_heads: int) -> Problem:
    """Random heads, seen with noise."""
    config = replace(FitConfig.for_model(model), depth_weight=0.0, outlier=1e6)
    people = torch.arange(num_heads)
    landmarks = synthetic_faces(model, config, people=people).landmarks
    noise = torch.randn(landmarks.shape, generator=torch.Generator().manual_seed(1), dtype=landmarks.dtype)
    landmarks = (landmarks + NOISE_PX * noise).float()
    fitter = batch_fit.BatchFitter(model, config=config)
    target = fitter.residuals.target(landmarks.double(), people)
    state = rigid_starts(fitter.residuals, target, num_people=num_heads)
    objective = Objective(fitter.residuals, fitter.prior, config, target=target, start=state, is_clip=False)
    start = Start(state.rotation.float(), state.translation.float())
    points, mesh = (kind(model, config, landmarks, start) for kind in (AutomaticObjective, MeshObjective))
    return Problem(fitter, landmarks, objective, points, mesh)


def cost_by_the_batched_fit(problem: Problem, unknowns: Unknowns) -> Tensor:
    """The function that the batched fit lowers, `[B]`."""
    parts = unknowns.own, *problem.points.pose(unknowns), unknowns.shape
    state = BatchState(*(part.double() for part in parts))
    return problem.objective.cost(state, torch.ones_like(problem.objective.target.weights))


def disagreement(problem: Problem, unknowns: Unknowns) -> float:
    """Largest difference of the three forms of the objective over the images, relative.

    Raises:
        SystemExit: they are not the same function, so that times to one loss would mean nothing.
    """
    with torch.no_grad():
        cost = cost_by_the_batched_fit(problem, unknowns)
        others = torch.stack([problem.points.loss(unknowns), problem.mesh.loss(unknowns)])
    difference = float(((others - cost) / cost).abs().max())
    if not difference < 1e-4:
        raise SystemExit(f"the objectives differ by {difference:.1e} of their value: no comparison")
    return difference


@dataclass(frozen=True)
class Newton:
    """The batched fit stopped after 1, 2, ... iterations, and whole (the last).

    Attributes:
        losses, wall, cpu: of each. iterations: of the whole, the mean and the most of an image.
        end: the whole fit.
    """

    losses: list[float]
    wall: list[float]
    cpu: list[float]
    iterations: tuple[float, int]
    end: Unknowns

    def first_at(self, loss: float) -> int:
        """The first iteration that reaches a loss, or the last of all."""
        return next((index for index, value in enumerate(self.losses[:-1]) if value <= loss), len(self.losses) - 1)


def run_newton(problem: Problem) -> Newton:
    """Each number of iterations is a call of its own, so that nothing but the time of a call is measured."""
    limit = batch_fit.MAX_ITERATIONS
    losses, wall, cpu, unknowns, fit = [], [], [], problem.points.zeros(), None
    problem.fitter.fit(problem.landmarks[:2])
    try:
        for most in (*range(1, 9), limit):
            batch_fit.MAX_ITERATIONS = most
            began, began_cpu = time.perf_counter(), time.process_time()
            fit = problem.fitter.fit(problem.landmarks)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
            unknowns = problem.points.unknowns_of(fit)
            losses.append(float(cost_by_the_batched_fit(problem, unknowns).sum()))
    finally:
        batch_fit.MAX_ITERATIONS = limit
    assert fit is not None
    return Newton(losses, wall, cpu, (float(fit.iterations.double().mean()), int(fit.iterations.max())), unknowns)


def adam_row(name: str, run: AdamRun, newton: Newton, *, rate: float) -> dict[str, Any]:
    """One rival: how far it came, and how long it took to where the batched fit ends."""
    loss = newton.losses[-1]
    there, end = run.first_at(loss * MARGIN), len(run.losses) - 1
    steps = end if there is None else there
    last = min(sum(STAGES), end)
    seconds, ours = float(run.cpu[steps]), newton.cpu[newton.first_at(loss * MARGIN)]
    return {
        "": name,
        "learning rate": rate,
        "steps there": f"> {end}" if there is None else str(there),
        LOSS_COLUMN: float(run.losses[last]) / loss,
        "wall s": float(run.wall[steps]),
        "CPU s": seconds,
        "times ours": f"{'> ' if there is None else ''}{seconds / ours:.1f}",
        "times the whole call": f"{'> ' if there is None else ''}{seconds / newton.cpu[-1]:.1f}",
    }


def newton_row(name: str, newton: Newton, index: int) -> dict[str, Any]:
    """A row of the table: the state after an iteration."""
    is_whole = index == len(newton.losses) - 1
    return {
        "": name,
        "steps there": f"mean {newton.iterations[0]:.1f}, most {newton.iterations[1]}" if is_whole else str(index + 1),
        LOSS_COLUMN: newton.losses[index] / newton.losses[-1],
        "wall s": newton.wall[index],
        "CPU s": newton.cpu[index],
    }


def slowed(run: AdamRun, problem: Problem, num_pose_steps: int) -> AdamRun:
    """The same way with the time that its steps take over the whole mesh."""
    stages = []
    for stage in ((_TIMED_STEPS, 0), (0, _TIMED_STEPS)):
        timed = run_adam(problem.mesh, rate=RELEASED_RATE, stages=stage)
        stages.append((float(timed.wall[-1]) / _TIMED_STEPS, float(timed.cpu[-1]) / _TIMED_STEPS))
    steps = torch.arange(len(run.losses), dtype=torch.float64)
    first = steps.clamp_max(num_pose_steps)
    wall, cpu = (first * pose + (steps - first) * whole for pose, whole in zip(*stages, strict=True))
    return replace(run, wall=wall, cpu=cpu)


def measure(problem: Problem, *, is_quick: bool) -> tuple[list[dict[str, Any]], float]:
    """Rows of the table, and the largest disagreement of the objectives."""
    newton = run_newton(problem)
    loss = newton.losses[-1]
    rows = [
        newton_row("batched fit, there", newton, newton.first_at(loss * MARGIN)),
        newton_row("batched fit, the whole call", newton, len(newton.losses) - 1),
    ]

    def is_there(value: float) -> bool:
        return value <= loss * MARGIN

    stages = (15, 30) if is_quick else STAGES
    run_adam(problem.points, rate=RELEASED_RATE, stages=(3, 3))  # what the first steps load is not theirs
    longer = (stages[0], stages[1] if is_quick else _LONGEST)
    run = run_adam(problem.points, rate=RELEASED_RATE, stages=longer, until=is_there)
    rows.append(adam_row("Adam, released", run, newton, rate=RELEASED_RATE))
    rows.append(adam_row("Adam, released, whole mesh", slowed(run, problem, stages[0]), newton, rate=RELEASED_RATE))
    states = [problem.points.zeros(), newton.end, run.best]
    for name, num_pose_steps in (("Adam, tuned", stages[0]), ("Adam, tuned, all at once", 0)):
        tried = []
        for rate in TUNED[:1] if is_quick else TUNED:
            both = (num_pose_steps, stages[1])
            rival = run_adam(problem.points, rate=rate, stages=both, until=is_there)
            tried.append((rival, rate))
            print(name, rate, "steps", len(rival.losses) - 1, "loss", float(rival.losses[-1]) / loss)
        best, rate = min(tried, key=lambda pair: (len(pair[0].losses), float(pair[0].losses[-1])))
        rows.append(adam_row(name, best, newton, rate=rate))
        states.append(best.best)
    return rows, max(disagreement(problem, state) for state in states)


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 heads, 45 steps of Adam: only shows that it runs")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    problem = make_problem(load_open_head(), 8 if arguments.quick else NUM_HEADS)
    rows, difference = measure(problem, is_quick=arguments.quick)
    header = list(max(rows, key=len))
    lines = table(header, [[row.get(name) for name in header] for row in rows], digits=3)
    notes = "\n".join((__doc__ or "").splitlines()[4:]).strip()
    checked = (
        f"The batched fit's own cost, that of Adam over landmarks and that over the mesh agree at the start and at the "
        f"ends of all rows to {difference:.0e} of their value."
    )
    machine = (
        f"Measured on {processor()}, {os.cpu_count()} cores, load average before it {load:.1f}: trust CPU seconds."
    )
    text = "\n\n".join(["## The batched fit against Adam", GOALS, notes, lines, checked, machine])
    conclude("batch-fit", text, {"rows": rows, "disagreement": difference}, is_published=arguments.publish)


if __name__ == "__main__":
    main()
