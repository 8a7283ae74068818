"""Fixtures of GenHead's training tests."""

from pathlib import Path

import pytest

from portrait4d.headparts.head import PartHead
from toy_genhead import make_toy_faces


@pytest.fixture(scope="session")
def toy_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a few renders of the open head; tests only read them."""
    return make_toy_faces(tmp_path_factory.mktemp("toy-faces"))


@pytest.fixture(scope="session")
def open_head() -> PartHead:
    """The open head where the toy's generator has it; tests only read it."""
    return PartHead.from_open_head()
