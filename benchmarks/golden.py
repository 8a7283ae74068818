"""Reference tensors of the official code, found in the shared folder: generated weights, inputs, outputs."""

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MEASURED: list[dict[str, Any]] = []
"""What was compared in this run; `benchmarks/fixtures.py` makes a table of it."""


@dataclass(frozen=True)
class Fixture:
    """One `<name>.npz` with its `<name>.json`."""

    name: str
    folder: Path
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, shared: Path, name: str) -> "Fixture":
        """Reads a fixture from the shared folder."""
        folder = shared / "spec" / "golden"
        about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(folder / f"{name}.npz") as archive:
            return cls(name, folder, about, dict(archive))

    def input(self, name: str) -> Tensor:
        """A stored input, or one made anew by its rule."""
        if f"in.{name}" in self.arrays:
            return torch.from_numpy(self.arrays[f"in.{name}"])
        entry = self.about["inputs"][name]
        return torch.from_numpy(rules(self.folder).make_input(self.name, name, entry["shape"], *entry["rule"]))

    def parameters(self) -> dict[str, Tensor]:
        """All generated tensors by name; those the rule leaves as constructed are left out."""
        prefix = self.about.get("param_prefix", "")
        rule = rules(self.folder)
        return {
            name: torch.from_numpy(rule.param_value(prefix + name, entry["shape"], entry["rule"]))
            for name, entry in self.about["params"].items()
            if entry["rule"][0] != "fixed"
        }

    def fill(self, network: nn.Module, *, drop_prefix: str = "") -> None:
        """Load the generated tensors into a network, strictly."""
        values = {name.removeprefix(drop_prefix): value for name, value in self.parameters().items()}
        network.load_state_dict(values, strict=True)
        network.eval()

    def error(self, name: str, value: Tensor) -> float:
        """Largest difference to an output, divided by that output's standard deviation (of all its elements)."""
        return self.absolute_error(name, value) / max(self.about["outputs"][name]["std"], 1e-12)

    def scale_error(self, name: str, value: Tensor) -> float:
        """Largest difference to an output, divided by that output's largest absolute value."""
        return self.absolute_error(name, value) / self._scale(name)

    def _scale(self, name: str) -> float:
        entry = self.about["outputs"][name]
        return max(abs(entry["min"]), abs(entry["max"]), 1e-12)

    def absolute_error(self, name: str, value: Tensor) -> float:
        """Largest difference to an output at the places that are stored."""
        return float(self.differences(name, value).max())

    def differences(self, name: str, value: Tensor) -> np.ndarray:
        """Absolute difference to an output at the places that are stored."""
        found = value.detach().cpu().numpy()
        entry = self.about["outputs"][name]
        assert list(found.shape) == entry["shape"], (name, found.shape, entry["shape"])
        if entry["stored"] == "sampled":
            found = found[tuple(slice(start, None, step) for start, step in entry["slice"])]
            expected = self.arrays[f"out.{name}.sampled"]
        else:
            expected = self.arrays[f"out.{name}"]
        assert found.shape == expected.shape
        difference = np.abs(found.astype(np.float64) - expected)
        error = float(difference.max())
        MEASURED.append(
            {"fixture": self.name, "output": name, "error": error, "std": entry["std"], "scale": self._scale(name)}
        )
        return difference


@cache
def rules(folder: Path) -> ModuleType:
    """The rules by which the reference inputs are made, a file beside them."""
    spec = importlib.util.spec_from_file_location("golden_rules", folder / "rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
