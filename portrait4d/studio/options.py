"""Options of the studio. Loads no torch."""

from dataclasses import dataclass

from portrait4d.options import EngineOptions
from portrait4d.runtime.checks import check_range


@dataclass(frozen=True, kw_only=True)
class StudioOptions(EngineOptions):
    """Where the page is served, and which engine draws."""

    engine: str = "lift"
    """lift; or another engine, or a path of its weights, where this machine draws it in real time (a GPU)."""

    host: str = "127.0.0.1"
    """Address to listen at. Those of other machines need --allow-remote."""

    port: int = 8765
    """Port to listen at; 0 takes a free one."""

    allow_remote: bool = False
    """Let other machines in: whoever has the address with its key can use the page, send files and see yours, and
    nothing on the way is encrypted."""

    opens_browser: bool = True
    """Open the page in the browser."""

    def __post_init__(self) -> None:
        check_range("port", self.port, 0, 65535)
