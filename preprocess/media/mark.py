"""The mark in every picture, video and mesh of this program: machines read in it who made it, and that it is synthetic.

The one definition for all formats: text for programs that show comments, XMP with the property "digital source type" of
the IPTC Photo Metadata Standard where files can hold it. Marks are easily removed: they tell honest machines, and stop
nobody who wants to deceive.
"""

from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from preprocess.files.program import NAME, version

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""IPTC's name for a composite of several elements, at least one of which is synthetic."""

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="{maker}" Iptc4xmpExt:DigitalSourceType="{source_type}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""

_GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_GIF_HEADER_BYTES, _GIF_COMMENT, _GIF_LARGEST_BLOCK = 13, b"\x21\xfe", 255


def maker() -> str:
    """Name and version of this program."""
    return f"{NAME} {version()}"


def mark() -> str:
    """The mark as a line of ASCII text, of less than 256 characters."""
    return f"Made by {maker()}: synthetic, not a recording ({SOURCE_TYPE})"


def xmp() -> str:
    """The mark as an XMP packet."""
    return _XMP.format(maker=maker(), source_type=SOURCE_TYPE)


def png_marks() -> PngImagePlugin.PngInfo:
    """The mark as chunks of a PNG file, for Pillow's argument `pnginfo`."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Software", maker())
    chunks.add_text("Comment", mark())
    chunks.add_itxt("XML:com.adobe.xmp", xmp())
    return chunks


def gltf_asset() -> dict[str, Any]:
    """The property `asset` of a glTF 2.0 document, with the mark."""
    return {
        "version": "2.0",
        "generator": maker(),
        "extras": {"comment": mark(), "digitalSourceType": SOURCE_TYPE},
    }


def mark_gif(path: Path) -> None:
    """Adds the mark to a GIF file as a comment behind its header.

    Raises:
        ValueError: it is not a GIF file.
    """
    data = path.read_bytes()
    if data[:6] not in _GIF_SIGNATURES:
        raise ValueError(f"expected a GIF file, got {path.name} that begins with {data[:6]!r}")
    flags = data[10]
    colours = 3 << (flags & 7) + 1 if flags & 0x80 else 0  # bytes of the global table, if there is one
    place = _GIF_HEADER_BYTES + colours
    text = mark().encode("ascii")[:_GIF_LARGEST_BLOCK]
    comment = _GIF_COMMENT + bytes([len(text)]) + text + b"\0"
    path.write_bytes(data[:place] + comment + data[place:])
