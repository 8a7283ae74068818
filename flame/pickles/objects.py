"""What a pickle machine may build besides plain data: stand-ins for names, and objects with what they resolve to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flame.errors import InputError

_KEYS = (str, bytes, memoryview, int, float, type(None))


@dataclass(frozen=True)
class StandIn:
    """What a name in a pickle stands for; the pickle can do nothing with it but `call` it.

    Each call counts as `cost` further instructions.
    """

    name: str
    call: Callable[..., Any]
    cost: int = 0


class PickledObject:
    """Base class of the objects that stand-ins build."""

    def set_state(self, state: Any) -> None:
        """Takes the state that the pickle gives to the object."""
        raise InputError(f"a {type(self).__name__.strip('_')} with a state in the file: get the file again")

    def resolve(self, resolve: Callable[[Any], Any]) -> Any:
        """Returns the value the object stands for; `resolve` does the same for a part of it."""
        del resolve
        return self


def plain_key(key: Any) -> Any:
    """Returns the key of a dict or item of a set if it is text, a number, or a flat tuple of them.

    Deeper tuples are refused, because Python hashes them by recursion without a limit.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, _KEYS) for part in parts):
        raise InputError("a key of a dict or set in the file is neither text nor a number: refused")
    return tuple(map(_own, key)) if isinstance(key, tuple) else _own(key)


def pairs_to_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Returns a dict of what `OrderedDict(pairs)` would hold."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not (isinstance(pairs, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in pairs)):
        raise InputError("a dict in the file is made of something else than pairs: get the file again")
    return {plain_key(key): value for key, value in pairs}


def _own(key: Any) -> Any:
    return bytes(key) if isinstance(key, memoryview) else key


class Resolver:
    """Replaces pickled objects by what they stand for, names by their text, and views by bytes.

    A shared object is resolved only once, also across calls, so that sharing cannot multiply the work.

    Args:
        name: of the file, for messages.
        max_depth: deeper nesting is refused, and with it any container that holds itself.
    """

    def __init__(self, name: str, *, max_depth: int = 50) -> None:
        self._name, self._max_depth, self._depth = name, max_depth, 0
        self._done: dict[int, tuple[Any, Any]] = {}  # holds the original too, so that its id is not reused

    def __call__(self, value: Any) -> Any:
        """Returns the resolved value.

        Raises:
            InputError: it is nested too deeply.
        """
        if id(value) not in self._done:
            if self._depth >= self._max_depth:
                raise InputError(f"{self._name} is nested too deeply: not a file of this kind")
            self._depth += 1
            self._done[id(value)] = value, self._resolve(value)
            self._depth -= 1
        return self._done[id(value)][1]

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, PickledObject):
            return value.resolve(self)
        if isinstance(value, StandIn):
            return value.name
        if isinstance(value, dict):
            return {key: self(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(self, value))
        return bytes(value) if isinstance(value, memoryview) else value
