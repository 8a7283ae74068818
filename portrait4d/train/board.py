"""Statistics for TensorBoard, beside the rows that every run writes."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flame.errors import InputError


class Board:
    """Writes numbers under their names; a board that is not wanted writes nothing.

    Args:
        folder: for TensorBoard's files.
        is_wanted: False makes all calls do nothing.

    Raises:
        InputError: it is wanted and not installed.
    """

    def __init__(self, folder: Path, *, is_wanted: bool) -> None:
        self._writer = _open(folder) if is_wanted else None

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Adds the numbers of a row of statistics at its images."""
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "images":
                    self._writer.add_scalar(name, value, row["images"])

    def __enter__(self) -> "Board":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _open(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "train.is_tensorboard needs TensorBoard: pip install 'portrait4d[tensorboard]', or leave it out; "
            "stats.jsonl has the same numbers"
        ) from error
    return SummaryWriter(str(folder))
