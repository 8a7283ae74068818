"""`--device auto` takes the accelerator where there is one, else the CPU."""

import pytest
import torch

from portrait4d.options import ReenactOptions
from portrait4d.reenactment.models import load_models
from portrait4d.runtime.device import check_device


@pytest.mark.parametrize(("has_cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_what_is_there(monkeypatch, has_cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert check_device("auto") == expected


def test_models_know_the_device_that_was_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_models(ReenactOptions(engine="lift", device="auto")).device == "cpu"
