"""Reads a pickle without trusting it: builds lists, dicts, numbers and text, and calls only the given stand-ins.

A pickle is a program for a stack machine. Python's own machine allocates the memory a file claims before it checks
whether the file is that long, hashes keys however deeply they are nested, and imports whatever the file names. This one
checks each length against the bytes that are left, counts its instructions, keeps large byte strings as views of the
file, and never imports.
"""

import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any

from flame.errors import InputError, printable
from flame.pickles.bounded_bytes import BoundedBytes
from flame.pickles.objects import PickledObject, StandIn, plain_key

MAX_INSTRUCTIONS = 4_000_000
"""Five times what a file with the shapes of Portrait4D needs; at about a hundred bytes each it bounds memory."""

_PAGE_BYTES = 4096

_LENGTHS = {"SHORT_BINBYTES": "<B", "BINBYTES": "<I", "BINBYTES8": "<Q"}
_NUMBERS_AND_TEXT = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
     "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8", "SHORT_BINBYTES",
     "BINBYTES", "BINBYTES8")
)  # fmt: skip
_WITH_ESCAPES = frozenset(("STRING", "GLOBAL", "INST", "PERSID"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error)


Find = Callable[[str, str], StandIn | None]


class PickleMachine:
    """Reads one pickle, or several that follow each other.

    Args:
        source: the bytes; byte strings in the result are views of them. Its position ends after the last pickle read.
        find: returns the stand-in for a module and a name, or None to refuse it.
        find_outside: returns what an outside (persistent) reference means; without it such references are refused.
        allow_sets: whether sets may occur.
        max_instructions: limit for all pickles together.
    """

    def __init__(
        self,
        source: BoundedBytes,
        *,
        find: Find,
        find_outside: Callable[[Any], Any] | None = None,
        allow_sets: bool = False,
        max_instructions: int = MAX_INSTRUCTIONS,
    ) -> None:
        self._source, self._name = source, source.name
        self._find, self._find_outside, self._allow_sets = find, find_outside, allow_sets
        self._left = max_instructions
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Returns the object of the next pickle.

        Raises:
            InputError: the pickle is damaged, claims more than it has, or asks for something that is not allowed.
        """
        self._stack, self._below, self._memo = [], [], {}
        try:
            while (instruction := self._next_instruction()) != "STOP":
                self._run(instruction, self._argument(instruction))
            return self._pop()
        except InputError as error:
            if self._name in str(error):
                raise
            raise InputError(f"{self._name}: {error}") from error
        except _DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
            raise InputError(f"{self._name} is damaged ({reason}): get the file again") from error

    def _next_instruction(self) -> str:
        code = _BY_CODE.get(self._source.read(1))
        if code is None:
            raise InputError(
                f"{self._name} is not a pickle, or damaged at byte {self._source.position - 1}: get the file again"
            )
        self._charge(1)
        return code.name

    def _charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise InputError(f"{self._name} has too many pickle instructions: no file of this kind needs so many")

    def _argument(self, instruction: str) -> Any:
        if instruction in _LENGTHS:
            form = _LENGTHS[instruction]
            (length,) = struct.unpack(form, self._source.read(struct.calcsize(form)))
            return self._source.view(length)
        kind = _OPCODES[instruction].arg  # reads by `read` and `readline` alone, which BoundedBytes has
        if kind is None:
            return None
        if instruction not in _WITH_ESCAPES:
            return kind.reader(self._source)  # pyright: ignore[reportArgumentType]
        with warnings.catch_warnings():  # Python warns of unknown escapes, which no pickle has
            warnings.simplefilter("error")
            try:
                return kind.reader(self._source)  # pyright: ignore[reportArgumentType]
            except Warning as warning:
                raise ValueError(str(warning)) from warning

    def _run(self, instruction: str, argument: Any) -> None:
        if instruction in _NUMBERS_AND_TEXT:
            self._push(argument)
        elif instruction in _CONSTANTS:
            self._push(_CONSTANTS[instruction])
        elif instruction in _CONTAINERS and (instruction != "EMPTY_SET" or self._allow_sets):
            self._push(_CONTAINERS[instruction]())
        elif instruction in _TUPLES:
            count = _TUPLES[instruction]
            self._push(tuple(reversed([self._pop() for _ in range(count)])))
        elif instruction in _ACTIONS:
            _ACTIONS[instruction](self, argument)
        else:
            raise InputError(
                f"{self._name} uses the pickle instruction {instruction}: only data of known kinds are read"
            )

    # ---- the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise InputError(f"{self._name} is damaged (nothing left on the stack): get the file again")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._push(value)
        return value

    def _mark(self, argument: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop_to_mark(self) -> list[Any]:
        if not self._below:
            raise InputError(f"{self._name} is damaged (no mark on the stack): get the file again")
        items, self._stack = self._stack, self._below.pop()
        return items

    def _drop_to_mark(self, argument: Any) -> None:
        self._pop_to_mark()

    def _drop(self, argument: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()

    # ---- containers

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise InputError(f"{self._name} appends to a {_kind(target)}: get the file again")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            raise InputError(f"{self._name} sets items of a {_kind(target)}: get the file again")
        target.update(self.make_dict(items))

    def make_dict(self, items: list[Any]) -> dict[Any, Any]:
        """Returns a dict of alternating keys and values; refuses keys that are not plain."""
        keys, values = items[0::2], items[1::2]
        if len(keys) != len(values):
            raise InputError(f"{self._name} has a key without a value: get the file again")
        return dict(zip(map(plain_key, keys), values, strict=True))

    def _add_items(self, argument: Any) -> None:
        items = self._pop_to_mark()
        target = self._top()
        if not isinstance(target, set):
            raise InputError(f"{self._name} adds to a {_kind(target)} as if it were a set: get the file again")
        target.update(map(plain_key, items))

    # ---- memory of what was built

    def _put(self, index: int | None) -> None:
        index = len(self._memo) if index is None else int(index)
        if not 0 <= index <= MAX_INSTRUCTIONS:
            raise InputError(f"{self._name} is damaged (memo index {index}): get the file again")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise InputError(f"{self._name} is damaged (memo {index} is empty): get the file again")
        self._push(self._memo[index])

    # ---- names and objects

    def _push_global(self, name: str | None) -> None:
        if name is None:
            attribute, module = self._pop(), self._pop()
        else:
            module, _, attribute = name.partition(" ")
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise InputError(f"{self._name} asks for a name that is not text: refused")
        found = self._find(module, attribute)
        if found is None:
            asked = printable(f"{module}.{attribute}"[:200])
            raise InputError(f"{self._name} asks for {asked}, which is no known kind of data: refused, nothing was run")
        self._push(found)

    def _call(self, argument: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not (isinstance(function, StandIn) and isinstance(arguments, tuple)):
            raise InputError(f"{self._name} calls a {_kind(function)}: refused, nothing was run")
        self._charge(function.cost + _size(arguments))
        self._push(function.call(*arguments))

    def _build(self, argument: Any) -> None:
        state, target = self._pop(), self._top()
        self._charge(_size(state if isinstance(state, tuple) else (state,)))
        if isinstance(target, PickledObject):
            target.set_state(state)
        elif not isinstance(target, dict):  # subclasses of dict have attributes, which are not needed
            raise InputError(f"{self._name} gives a {_kind(target)} a state: get the file again")

    def _refer_outside(self, argument: Any) -> None:
        identity = self._pop() if argument is None else argument
        if self._find_outside is None:
            raise InputError(f"{self._name} refers to an outside object: refused")
        self._push(self._find_outside(identity))


_BY_CODE = {code.code.encode("latin1"): code for code in pickletools.opcodes}
_OPCODES = {code.name: code for code in pickletools.opcodes}
_ACTIONS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "PROTO": lambda machine, argument: None,  # the instructions themselves are checked
    "FRAME": lambda machine, argument: None,  # only a hint for how much to read at once
    "MARK": PickleMachine._mark,
    "POP": PickleMachine._drop,
    "POP_MARK": PickleMachine._drop_to_mark,
    "DUP": lambda machine, argument: machine._push(machine._top()),
    "LIST": lambda machine, argument: machine._push(machine._pop_to_mark()),
    "TUPLE": lambda machine, argument: machine._push(tuple(machine._pop_to_mark())),
    "DICT": lambda machine, argument: machine._push(machine.make_dict(machine._pop_to_mark())),
    "APPEND": lambda machine, argument: machine._append([machine._pop()]),
    "APPENDS": lambda machine, argument: machine._append(machine._pop_to_mark()),
    "SETITEM": lambda machine, argument: machine._set_items(list(reversed([machine._pop(), machine._pop()]))),
    "SETITEMS": lambda machine, argument: machine._set_items(machine._pop_to_mark()),
    "ADDITEMS": PickleMachine._add_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), PickleMachine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleMachine._get),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), PickleMachine._push_global),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), PickleMachine._call),
    "BUILD": PickleMachine._build,
    **dict.fromkeys(("PERSID", "BINPERSID"), PickleMachine._refer_outside),
}


def _size(values: tuple[Any, ...]) -> int:
    """Returns the cost of copying the values, which no instruction counts: a stand-in may copy shared values."""
    containers = sum(len(value) for value in values if isinstance(value, (list, tuple, dict, set)))
    return containers + sum(len(value) // _PAGE_BYTES for value in values if isinstance(value, memoryview))


def _kind(value: Any) -> str:
    return value.name[:100] if isinstance(value, StandIn) else type(value).__name__.strip("_")
