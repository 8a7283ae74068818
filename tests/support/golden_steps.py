"""A training step of ours against that of the official code: losses, logits, pictures, gradients.

Tolerances are those that come with the reference tensors, which were measured by adding 1e-6 of noise to the inputs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flame.geometry.camera import Camera
from golden import MEASURED, Fixture, rules
from portrait4d.gan.discriminator import DualDiscriminator, JudgedImages

SCALAR, TERM, PICTURE = 1e-5, 3e-4, 5e-4
"""Relative: of a loss, of a sample's logit; of a picture, in its standard deviations."""


class Recorder(nn.Module):
    """A discriminator that keeps what it saw and said."""

    def __init__(self, discriminator: DualDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.seen: list[JudgedImages] = []
        self.logits: list[Tensor] = []

    def forward(self, images: JudgedImages, condition: Camera | Tensor) -> Tensor:
        self.seen.append(images)
        self.logits.append(self.discriminator(images, condition))
        return self.logits[-1]


@cache
def generated_weights(
    folder: Path, name: str, network: str, *, listed_in: str, like: str | None = None
) -> dict[str, Tensor]:
    """Generated tensors of one network of a fixture, whose names and shapes a fixture lists, if need be of its like."""
    prefix = Fixture.load(folder, name).about["param_prefix"][network]
    entries = Fixture.load(folder, listed_in).about["params"][like or network]
    rule = rules(folder / "spec" / "golden")
    return {
        key: torch.from_numpy(rule.param_value(prefix + key, entry["shape"], entry["rule"]))
        for key, entry in entries.items()
        if entry["rule"][0] != "fixed"
    }


def precise(value: Any) -> Any:
    """In float64: a network, in place; a tensor; or a dataclass of tensors, whole numbers kept.

    The reference's rounding is that of one kind of processor, and ours in float32 that of another: in float64 only
    one of the two is left, the same everywhere.
    """
    if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.is_floating_point()):
        return value.double()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: precise(getattr(value, field.name)) for field in fields(value)})
    return value


def backward_losses(phase: str, terms: Mapping[str, Tensor]) -> list[Tensor]:
    """The losses of which the official code takes gradients apart, from our terms."""
    values = list(terms.values())
    if phase == "Gmain":
        return [torch.stack(values).sum()]
    if phase == "Dboth":  # the penalty is part of the real pictures' loss
        return [values[0], values[1] + values[2]]
    return values


def compare_scalars(fixture: Fixture, case: str, losses: list[Tensor], *, within: float = SCALAR) -> None:
    """The losses, each with the phase's gain."""
    about = fixture.about["cases"][case]
    found = [loss.item() * about["gain"] for loss in losses]
    error = max(abs(ours / theirs - 1) for ours, theirs in zip(found, about["backward_scalars"], strict=True))
    note(fixture.name, f"{case}.scalars", error)
    assert error < within, (found, about["backward_scalars"])


def compare_judged(
    fixture: Fixture,
    case: str,
    judge: Recorder,
    names: Mapping[str, str],
    *,
    within: float = TERM,
    picture: float = PICTURE,
) -> None:
    """Logits, and what was generated.

    Args:
        fixture: of the case.
        case: its name.
        judge: has seen the generated pictures first.
        names: official ones of the parts of `JudgedImages`.
        within: how far logits may be off, relative.
        picture: how far a value of a part may be off, in its standard deviations.
    """
    for index, logits in enumerate(judge.logits[:2]):
        if f"out.{case}.logits{index}" in fixture.arrays:
            expected = torch.from_numpy(fixture.arrays[f"out.{case}.logits{index}"])
            note(fixture.name, f"{case}.logits{index}", float((logits.detach() - expected).abs().max()))
            assert logits.detach().to(expected).allclose(expected, rtol=within, atol=1e-5)
    for part, name in names.items():
        if f"{case}.gen.{name}" in fixture.about["outputs"]:
            assert fixture.error(f"{case}.gen.{name}", getattr(judge.seen[0], part)) < picture, name


def compare_gradients(
    fixture: Fixture, case: str, trained: nn.Module, *, is_loose: bool = False, first_values: float = 1e-3
) -> None:
    """Norm and first values of every parameter's gradient, and whole gradients of some.

    Args:
        fixture: of the case.
        case: its name.
        trained: the network, after `backward`.
        is_loose: of a loss of absolute values, where a pair that changes its order flips its gradient.
        first_values: how far the first values of most gradients may be from theirs, of the whole norm.
    """
    about = fixture.about["cases"][case]
    parameters = dict(trained.named_parameters())
    _compare_missing(about["no_grad_params"], [name for name, value in parameters.items() if value.grad is None])
    order = about.get("grad_params", fixture.about["grad_param_order"][about["trained_module"]])
    stats = fixture.arrays[f"out.{case}.grad_stats"].astype(np.float64)
    largest = stats[:, 0].max()
    norms: dict[str, float] = {}
    firsts = []
    for name, row in zip(order, stats, strict=True):
        if row[0] > 1e-6 * largest:
            gradient = parameters[name].grad
            assert gradient is not None, name
            norms[name] = abs(float(gradient.double().norm()) / row[0] - 1)
            first = gradient.double().flatten()[:8].numpy()
            firsts.append(float(np.linalg.norm(first - row[2 : 2 + len(first)]) / row[0]))
    wholes = list(_whole_errors(fixture, case, parameters))
    values = list(norms.values())
    note(fixture.name, f"{case}.gradient norms, median", float(np.median(values)))
    note(fixture.name, f"{case}.gradient norms, 95 %", float(np.quantile(values, 0.95)))
    note(fixture.name, f"{case}.gradients, worst", max(wholes))
    worst = sorted(norms.items(), key=lambda item: -item[1])[:5]
    assert np.quantile(values, 0.95) < (1e-2 if is_loose else 1e-3), worst
    assert np.median(values) < (2e-3 if is_loose else 1e-4), worst
    assert np.quantile(firsts, 0.95) < (2e-2 if is_loose else first_values)
    assert np.median(wholes) < (2e-2 if is_loose else 1e-3)


def note(fixture: str, output: str, error: float) -> None:
    """Leaves a relative error in the table of all comparisons."""
    MEASURED.append({"fixture": fixture, "output": output, "error": error, "std": 1.0, "scale": 1.0})


def _compare_missing(official: list[str] | int, ours: list[str]) -> None:
    """Parameters without a gradient; the head model's are none of ours, and never have one."""
    if isinstance(official, int):  # only counted, with two of the head model
        assert len(ours) == official - 2
    else:
        assert set(ours) == {name for name in official if not name.startswith("deformer.")}


def _whole_errors(fixture: Fixture, case: str, parameters: Mapping[str, nn.Parameter]) -> Iterator[float]:
    """Relative errors of the gradients that are stored."""
    for name, parameter in parameters.items():
        key = f"out.{case}.grad.{name}"
        stored = next((other for other in (key, f"{key}.sampled") if other in fixture.arrays), None)
        if stored is None or parameter.grad is None:
            continue
        expected, found = fixture.arrays[stored].astype(np.float64), parameter.grad.double().numpy()
        if stored != key:
            places = fixture.about["outputs"][f"{case}.grad.{name}"]["slice"]
            found = found[tuple(slice(start, None, step) for start, step in places)]
        yield float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))
