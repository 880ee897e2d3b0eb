"""A pickle interpreter that can describe tensors and nothing else.

A PyTorch state_dict is a pickle, and a pickle is a program: the standard unpickler calls whatever it names. This
one walks the opcodes itself. It knows plain values, tuples, lists and dicts with plain keys, and the few names in
`_BUILDERS`; every other opcode or name is refused. It never imports, never calls a name taken from the file, and
allocates nothing whose size the file states: a tensor stays a description until its storage has been checked.

Opcodes: `pickletools` and the comments in CPython's Lib/pickle.py.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from targets.errors import EdgertError

_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
_MARK = object()


class UnsafePickle(EdgertError):
    """The pickle asks for something other than plain values and tensors."""


@dataclass(frozen=True)
class _Name:
    """A global the file named; inert until a REDUCE that `_BUILDERS` knows."""

    module: str
    name: str


@dataclass(frozen=True)
class StorageRef:
    """One stored array: numpy dtype, the key of its bytes, its number of elements."""

    dtype: str
    key: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A strided view of a storage; offset, shape and strides count elements, as in torch."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(args: tuple) -> TensorRef:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    if len(args) < 4 or not isinstance(args[0], StorageRef):
        raise UnsafePickle("weights file: a tensor without a storage")
    storage, offset, shape, strides = args[:4]
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 16):
        raise UnsafePickle("weights file: a tensor whose shape and strides do not match")
    if any(type(n) is not int or not 0 <= n < 2**48 for n in (offset, *shape, *strides)):
        raise UnsafePickle("weights file: a tensor with a negative or absurd offset, size or stride")
    return TensorRef(storage, offset, shape, strides)


def _parameter(args: tuple) -> TensorRef:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)."""
    if not args or not isinstance(args[0], TensorRef):
        raise UnsafePickle("weights file: a parameter that is no tensor")
    return args[0]


def _ordered_dict(args: tuple) -> dict:
    if args:
        raise UnsafePickle("weights file: an OrderedDict built from arguments")
    return {}


_BUILDERS: dict[tuple[str, str], Callable[[tuple], Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _ordered_dict,
}


def _name(text: str) -> _Name:
    module, _, name = text.partition(" ")
    if (module, name) not in _BUILDERS and not (module == "torch" and name in _DTYPES):
        raise UnsafePickle(f"weights file: refuses to load {text[:80]!r} (only tensors and plain values are allowed)")
    return _Name(module, name)


def _storage(pid: Any) -> StorageRef:
    """A persistent id: ("storage", storage type, key, device, numel[, view])."""
    if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[1], _Name)):
        raise UnsafePickle("weights file: a persistent id that is no tensor storage")
    kind, key, numel = pid[1].name, pid[2], pid[4]
    if kind not in _DTYPES or not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
        raise UnsafePickle("weights file: a damaged storage description")
    if len(pid) == 6 and pid[5] is not None:
        raise UnsafePickle("weights file: storages that are views of storages are not supported")
    return StorageRef(_DTYPES[kind], key, numel)


def load(file: BinaryIO) -> Any:
    """Interpret one pickle from `file`, leaving it positioned after the pickle.

    Returns plain Python values with `TensorRef` in the place of tensors. Raises UnsafePickle for anything beyond
    those, and for a damaged pickle.
    """
    machine = _Machine()
    try:
        for opcode, arg, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, arg)
    except UnsafePickle:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise UnsafePickle(f"weights file: damaged pickle ({error})") from None
    raise UnsafePickle("weights file: pickle without an end")


class _Machine:
    """The pickle machine's stack and memo (a dict, so that a huge memo index costs nothing)."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise UnsafePickle("weights file: damaged pickle (mark where a value belongs)")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # running off the bottom is an IndexError: damaged
            at -= 1
        items, self.stack[at:] = self.stack[at + 1 :], []
        return items

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        # Plain keys only: hashing a deeply nested tuple would recurse in C until the stack ends.
        if type(target) is not dict or len(items) % 2 or any(type(key) not in (str, int) for key in items[::2]):
            raise UnsafePickle("weights file: damaged pickle (dict entries)")
        target.update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise UnsafePickle("weights file: damaged pickle (list entries)")
        self.stack[-1].extend(items)

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        builder = _BUILDERS.get((function.module, function.name)) if isinstance(function, _Name) else None
        if builder is None or type(args) is not tuple:
            raise UnsafePickle("weights file: refuses a call that does not build a tensor")
        self.stack.append(builder(args))

    def build(self) -> None:
        """State for an object: only a state_dict's `_metadata`, which nothing here needs, so it is dropped."""
        self.pop()
        if type(self.stack[-1]) is not dict:
            raise UnsafePickle("weights file: refuses to set an object's state")

    def take(self, count: int) -> tuple:
        if count == 0:
            return ()
        values = tuple(self.stack[-count:])
        if len(values) != count or _MARK in values:
            raise UnsafePickle("weights file: damaged pickle (tuple)")
        del self.stack[-count:]
        return values

    def step(self, op: str, arg: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        if op in _PUSH_ARGUMENT:
            stack.append(arg)
        elif op in _PUSH_NEW:
            stack.append(_PUSH_NEW[op]())
        elif op in _PUT:
            self.memo[arg] = stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif op in _GET:
            stack.append(self.memo[arg])
        elif op in _TUPLES:
            stack.append(self.take(_TUPLES[op]))
        elif op in _ACTIONS:
            _ACTIONS[op](self, arg)
        elif op not in ("PROTO", "FRAME"):
            raise UnsafePickle(f"weights file: refuses the pickle operation {op}")


_PUSH_ARGUMENT = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "MARK": lambda: _MARK,
}  # fmt: skip
_PUT, _GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.pop(), m.pop()
    m.stack.append(_name(f"{module} {name}"))


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": lambda m, arg: m.stack.append(_name(arg)),
    "STACK_GLOBAL": _stack_global,
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(list(m.take(2))),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(_storage(m.pop())),
}
