"""Numbers that others published, with their protocol. They stand beside ours to be seen, not to be subtracted.

AED, APD, AKD and CSIM of these tables are other measures than ours, see `definitions.py`; so is LPIPS unless the same
network is named. Numbers were read from papers, from notes on them and from repositories, as each table says.
"""

from dataclasses import dataclass

from portrait4d.evaluation.definitions import Kind


@dataclass(frozen=True)
class PublishedTable:
    """Rows of one protocol.

    Attributes:
        kind: of reenactment.
        protocol: clips, frames, networks, as far as known.
        source: where the numbers were read.
        measures: heads of the columns.
        rows: method, and its numbers as printed; empty where it was not reported.
    """

    kind: Kind
    protocol: str
    source: str
    measures: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


PUBLISHED = (
    PublishedTable(
        kind="self",
        protocol="VFHQ test set, self-reenactment, GAGAvatar's protocol: 50 clips, 50 frames, squares of 3 sides of "
        "the five key points' box, 512 px; LPIPS by SqueezeNet in FlexAvatar and OMG-Avatar; AED and APD "
        "as each paper computes them, on scales of their own",
        source="tables of LAM, OMG-Avatar (arXiv 2603.01506) and FlexAvatar, through notes on them",
        measures=("PSNR ↑", "SSIM ↑", "LPIPS ↓", "CSIM ↑", "AED ↓", "APD ↓", "AKD ↓"),
        rows=(
            ("GPAvatar", "21.04", ".807", ".150", ".772", ".132", ".189", "4.226"),
            ("Real3D-Portrait", "20.88", ".780", ".154", ".801", ".150", ".268", ""),
            ("Portrait4D-v2", "21.34", ".791", ".144", ".803", ".117", ".187", "3.749"),
            ("GAGAvatar", "21.83", ".818", ".122", ".816", ".111", ".135", "3.349"),
            ("LAM-80K", "22.65", ".829", ".109", ".822", ".102", ".134", "2.059"),
            ("OMG-Avatar", "22.72", ".831", ".091", ".869", ".088", "", ""),
            ("FlexAvatar, fitted 2 minutes", "23.47", ".837", ".099", ".830", ".087", ".010", "3.007"),
        ),
    ),
    PublishedTable(
        kind="self",
        protocol="VFHQ, 512 px, Portrait4D-v2's own protocol",
        source="notes on arXiv 2403.13570",
        measures=("LPIPS ↓", "FID ↓", "ID ↑", "AED ↓"),
        rows=(("Portrait4D-v2", ".224", "26.3", ".873", ".019"),),
    ),
    PublishedTable(
        kind="cross",
        protocol="VFHQ test set, cross-reenactment, FlexAvatar's protocol: 50 clips, 50 frames",
        source="README of FlexAvatar's repository",
        measures=("CSIM ↑", "AED ↓", "APD ↓"),
        rows=(("FlexAvatar, released checkpoint", ".650", ".247", ".026"),),
    ),
    PublishedTable(
        kind="cross",
        protocol="VFHQ, 512 px, Portrait4D-v2's own protocol",
        source="notes on arXiv 2403.13570",
        measures=("FID ↓", "ID ↑"),
        rows=(("Portrait4D-v2", "48.5", ".736"),),
    ),
)


def published_tables(kind: Kind) -> tuple[PublishedTable, ...]:
    """The tables of one kind of reenactment."""
    return tuple(table for table in PUBLISHED if table.kind == kind)
