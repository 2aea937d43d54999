"""As much of the ONNX file format as it takes to read a model's weights and to write a small graph.

An ONNX file is a protocol buffer: fields of a number, a kind and a value. The package ``onnx`` that reads and writes
all of it is large, and not needed to run a model.

Source
------
onnx.proto of https://github.com/onnx/onnx for the numbers of fields; https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_WHOLE, _BYTES = 0, 2  # kinds of values: a number, or bytes with their length ahead
_FLOAT, _INT64 = 1, 7  # of TensorProto.DataType
_IR_VERSION, _OPSET = 8, 16

Shape: TypeAlias = tuple[int | str, ...]


@dataclass(frozen=True)
class Node:
    """One operation of a graph: its operator, the names of inputs and outputs, and whole-number attributes."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, int] | None = None


def read_model(data: bytes) -> tuple[dict[str, npt.NDArray[np.float32]], list[Node]]:
    """Return a model's float32 weights by name, and its operations without their attributes.

    Raises
    ------
    ValueError, KeyError, IndexError, TypeError, OverflowError
        When it is no ONNX file.
    """
    graph = _grouped(memoryview(data))[7][0]
    weights: dict[str, npt.NDArray[np.float32]] = {}
    nodes = []
    for number, value in _fields(_bytes(graph)):
        if number == 1:
            node = _grouped(_bytes(value))
            inputs, outputs = ([_text(name) for name in node.get(at, ())] for at in (1, 2))
            nodes.append(Node(_text(node[4][0]), inputs, outputs))
        elif number == 5:
            tensor = _grouped(_bytes(value))
            if tensor[2] == [_FLOAT]:
                shape = [_number(size) for size in tensor.get(1, ())]
                weights[_text(tensor[8][0])] = np.frombuffer(_bytes(tensor[9][0]), "<f4").reshape(shape)
    return weights, nodes


def write_model(
    nodes: Sequence[Node],
    constants: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
) -> bytes:
    """Return a model as a file: operations in order, constants, and float32 inputs and outputs with their shapes."""
    graph = b"".join(_field(1, _node(node)) for node in nodes) + _field(2, b"graph")
    graph += b"".join(_field(5, _tensor(name, values)) for name, values in constants.items())
    graph += b"".join(_field(11, _value(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value(name, shape)) for name, shape in outputs.items())
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, _OPSET))


def _node(node: Node) -> bytes:
    names = b"".join(_field(1, name) for name in node.inputs) + b"".join(_field(2, n) for n in node.outputs)
    attributes = (node.attributes or {}).items()
    return (
        names
        + _field(4, node.operator)
        + b"".join(
            _field(5, _field(1, name) + _field(3, value) + _field(20, 2)) for name, value in attributes
        )
    )


def _tensor(name: str, values: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> bytes:
    kind, little = (_FLOAT, "<f4") if values.dtype.kind == "f" else (_INT64, "<i8")
    shape = b"".join(_field(1, size) for size in values.shape)
    return shape + _field(2, kind) + _field(8, name) + _field(9, values.astype(little).tobytes())


def _value(name: str, shape: Shape) -> bytes:
    sizes = b"".join(
        _field(1, _field(2, size) if isinstance(size, str) else _field(1, size)) for size in shape
    )
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sizes)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _WHOLE) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Write a number in groups of seven bits, the lowest first; the high bit says that more follow."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _WHOLE:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif not size:
            raise ValueError(f"no protocol buffer: a field of kind {kind}")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1


def _grouped(data: memoryview) -> dict[int, list[int | memoryview]]:
    found: dict[int, list[int | memoryview]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no ONNX file: a number where a message belongs")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("no ONNX file: bytes where a number belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()
