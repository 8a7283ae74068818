"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder of reference material: `$PORTRAIT4D_SHARED`, or `shared` beside the checkout."""
    return Path(os.environ.get("PORTRAIT4D_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material; the test is skipped where it is absent."""
    folder = shared_folder()
    if not (folder / "README.md").is_file():
        pytest.skip(f"reference material not found at {folder}: set PORTRAIT4D_SHARED")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch while a module's tests run: the small networks are faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
