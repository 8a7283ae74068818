"""Where networks run; loads no torch, so that the command line can ask for it at once."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where the work is done."""

    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: cuda where there is one."""
