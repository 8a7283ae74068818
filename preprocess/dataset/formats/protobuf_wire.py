"""Reads messages of protocol buffers whose fields are numbers and bytes, without a schema compiler.

The wire format is public: a message is a sequence of (tag, value). The tag is a varint of `field << 3 | kind`; kind 0
is a varint, 1 eight bytes, 2 a varint length and as many bytes, 5 four bytes.
"""

from flame.errors import InputError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def read_message(content: bytes, where: str) -> dict[int, int | bytes]:
    """Returns the values by field number; of a repeated field the last value counts, as the format demands.

    Args:
        content: the message.
        where: names what is read, for the error.

    Raises:
        InputError: it is no such message, or it is cut off.
    """
    fields: dict[int, int | bytes] = {}
    position = 0
    while position < len(content):
        tag, position = _varint(content, position, where)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            fields[field], position = _varint(content, position, where)
            continue
        if kind == _BYTES:
            length, position = _varint(content, position, where)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise InputError(f"{where}: expected a message of numbers and bytes, got a field of kind {kind}")
        if field == 0 or position + length > len(content):
            raise InputError(f"{where}: the message is damaged or cut off: copy the dataset again")
        fields[field] = content[position : position + length]
        position += length
    return fields


def _varint(content: bytes, position: int, where: str) -> tuple[int, int]:
    """Reads a varint: seven bits a byte, lowest first, at most ten bytes; returns it and the position after it."""
    value = 0
    for index, byte in enumerate(content[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise InputError(f"{where}: the message is damaged or cut off: copy the dataset again")
