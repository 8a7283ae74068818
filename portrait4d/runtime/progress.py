"""How a long job tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with a stage name, the number of finished steps and the number of all steps if known."""


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """The default progress callback."""
