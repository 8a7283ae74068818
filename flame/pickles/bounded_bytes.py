"""Bytes with a read position, which never return more than there are, whatever length a file claims."""

from flame.errors import InputError


class BoundedBytes:
    """Reads `data` from its start; `name` is for messages."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self._data, self.name, self.position = memoryview(data), name, 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, count: int) -> bytes:
        """Returns the next `count` bytes."""
        return bytes(self.view(count))

    def view(self, count: int) -> memoryview:
        """Returns the next `count` bytes without copying them.

        Raises:
            InputError: there are fewer.
        """
        end = self.position + count
        if not self.position <= end <= len(self._data):
            raise InputError(
                f"{self.name} ends too early: {count} bytes wanted at byte {self.position}, "
                f"{len(self._data) - self.position} are left; the file is cut off or damaged, get it again"
            )
        piece = self._data[self.position : end]
        self.position = end
        return piece

    def readline(self) -> bytes:
        """Returns the bytes up to the next line feed, which is included."""
        length, step = 0, 256
        while self.position + length < len(self._data):
            piece = bytes(self._data[self.position + length : self.position + length + step])
            found = piece.find(b"\n")
            if found >= 0:
                return self.read(length + found + 1)
            length += step
        return self.read(len(self._data) - self.position + 1)
