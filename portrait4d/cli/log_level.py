"""What the packages of this project tell of themselves on stderr."""

import logging
import sys
from typing import Literal

from flame.errors import printable

LogLevel = Literal["debug", "info", "warning", "error"]

PACKAGES = ("flame", "preprocess", "portrait4d", "genhead")


class _Stderr(logging.Handler):
    """Prints one line a message to what is stderr at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname.lower()}: {record.name}: {printable(record.getMessage())}", file=sys.stderr)


_HANDLER = _Stderr()


def set_log_level(level: LogLevel) -> None:
    """Lets messages of a level and above through; other libraries stay as they are."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.propagate = level in ("warning", "error")  # Python prints these itself
        if logger.propagate:
            logger.removeHandler(_HANDLER)
        elif _HANDLER not in logger.handlers:
            logger.addHandler(_HANDLER)
