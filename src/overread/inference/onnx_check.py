"""What a model file asks for, read without loading it: a package is untrusted input.

A small reader of the protobuf wire format (protobuf.dev, "Encoding") for the fields of onnx.proto3 (ONNX IR version 3
to 13) that could reach outside the file: tensors kept in other files, and operators from other domains, which a runtime
would look up in a shared library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from overread.domain.errors import InvalidPackage

#: Operators of the ONNX standard, and ONNX Runtime's own, which are compiled into it.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_DEEPEST = 32

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_OPSET_DOMAIN = 1
_FUNCTION_NODE, _FUNCTION_DOMAIN = 7, 10
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14


@dataclass(kw_only=True)
class _Seen:
    external: bool
    #: (domain, operator) of every node.
    operators: set[tuple[str, str]]
    nodes: int = 0


def check(model: bytes) -> None:
    """Raises `InvalidPackage` if `model` is no ONNX model, keeps data outside the file or uses custom operators."""
    seen = _Seen(external=False, operators=set())
    own: set[str] = set()
    try:
        for number, value in _fields(memoryview(model)):
            if number == _MODEL_GRAPH:
                _graph(_message(value), seen, 0)
            elif number == _MODEL_FUNCTIONS:
                own.add(_function(_message(value), seen))
            elif number == _MODEL_OPSET:
                _message(value)
    except ValueError as e:
        raise InvalidPackage(f"The model file is not ONNX, or is cut off: {e}.") from e
    if not seen.nodes:
        raise InvalidPackage("The model file is not ONNX: it has no graph with operators.")
    if seen.external:
        raise InvalidPackage(
            "The model keeps weights outside its file (external data), which is not allowed.",
            remedy="Export it again with all weights inside model.onnx.",
        )
    foreign = sorted(f"{d}:{o}" for d, o in seen.operators if d not in KNOWN_DOMAINS | own)
    if foreign:
        raise InvalidPackage(f"The model uses custom operators, which are not allowed: {', '.join(foreign[:5])}.")


def _graph(data: memoryview, seen: _Seen, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("graphs are nested too deeply")
    for number, value in _fields(data):
        if number == _GRAPH_NODE:
            _node(_message(value), seen, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(_message(value), seen)
        elif number == _GRAPH_SPARSE:
            _sparse(_message(value), seen)


def _function(data: memoryview, seen: _Seen) -> str:
    domain = ""
    for number, value in _fields(data):
        if number == _FUNCTION_NODE:
            _node(_message(value), seen, 1)
        elif number == _FUNCTION_DOMAIN:
            domain = _text(value)
    return domain


def _node(data: memoryview, seen: _Seen, depth: int) -> None:
    domain, operator = "", ""
    for number, value in _fields(data):
        if number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_OP_TYPE:
            operator = _text(value)
        elif number == _NODE_ATTRIBUTE:
            _attribute(_message(value), seen, depth)
    seen.operators.add((domain, operator))
    seen.nodes += 1


def _attribute(data: memoryview, seen: _Seen, depth: int) -> None:
    for number, value in _fields(data):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _tensor(_message(value), seen)
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _graph(_message(value), seen, depth + 1)
        elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            _sparse(_message(value), seen)


def _sparse(data: memoryview, seen: _Seen) -> None:
    for number, value in _fields(data):
        if number in (_SPARSE_VALUES, _SPARSE_INDICES):
            _tensor(_message(value), seen)


def _tensor(data: memoryview, seen: _Seen) -> None:
    for number, value in _fields(data):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
            seen.external = True


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of each field: a number, or the bytes of a string, message or packed list."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > end:
                raise ValueError("a field is longer than the file")
            yield key >> 3, int.from_bytes(data[at : at + size], "little")
            at += size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field is longer than the file")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"an unknown wire type, {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
