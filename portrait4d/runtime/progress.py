"""How a long job reports its progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with a stage name, the number of finished steps and the number of all steps, None if unknown."""


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """Does nothing; the default progress callback."""
