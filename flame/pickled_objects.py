"""What a pickle machine may build besides plain data: stand-ins for names, objects of ours, what they resolve to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flame.errors import InputError

_KEYS = (str, bytes, memoryview, int, float, type(None))


@dataclass(frozen=True)
class StandIn:
    """What a name in a pickle means to us; `call` is the only thing that can happen to it."""

    name: str
    call: Callable[..., Any]


class PickledObject:
    """Base of what stand-ins build."""

    def set_state(self, state: Any) -> None:
        """Take the state that the pickle gives the object."""
        raise InputError(f"a {type(self).__name__.strip('_')} with a state in the file: get the file again")

    def resolve(self, resolve: Callable[[Any], Any]) -> Any:
        """The value the object stands for; `resolve` does the same for a part of it."""
        del resolve
        return self


def plain_key(key: Any) -> Any:
    """The key of a dict or item of a set, if it is text, a number, or a flat tuple of them.

    Deeper tuples are refused: Python hashes them by recursion without a limit.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, _KEYS) for part in parts):
        raise InputError("a key of a dict or set in the file is neither text nor a number: refused")
    return tuple(map(_own, key)) if isinstance(key, tuple) else _own(key)


def pairs_to_dict(pairs: Any = ()) -> dict[Any, Any]:
    """What `OrderedDict(pairs)` makes."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not (isinstance(pairs, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in pairs)):
        raise InputError("a dict in the file is made of something else than pairs: get the file again")
    return {plain_key(key): value for key, value in pairs}


def _own(key: Any) -> Any:
    return bytes(key) if isinstance(key, memoryview) else key


def resolve(value: Any, name: str, *, max_depth: int = 50) -> Any:
    """Replaces pickled objects by what they stand for, names by their text, and views by bytes.

    Shared parts are resolved once, so that sharing cannot multiply the work.

    Raises:
        InputError: nested more than `max_depth` deep, which includes a container inside itself.
    """
    done: dict[int, Any] = {}
    depth = 0

    def visit(part: Any) -> Any:
        nonlocal depth
        if id(part) not in done:
            if depth >= max_depth:
                raise InputError(f"{name} is nested too deeply: not a file of this kind")
            depth += 1
            done[id(part)] = resolve_one(part)
            depth -= 1
        return done[id(part)]

    def resolve_one(part: Any) -> Any:
        if isinstance(part, PickledObject):
            return part.resolve(visit)
        if isinstance(part, StandIn):
            return part.name
        if isinstance(part, dict):
            return {key: visit(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(map(visit, part))
        return bytes(part) if isinstance(part, memoryview) else part

    return visit(value)
