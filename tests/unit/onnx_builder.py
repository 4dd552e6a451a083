"""Tiny ONNX models written by hand (protobuf wire format): tests need no ONNX library and no trained weights."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, body: bytes | str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, shape: tuple[int, ...], values: list[float], extra: bytes = b"") -> bytes:
    dims = b"".join(number(1, n) for n in shape)
    return dims + number(2, 1) + message(8, name) + message(9, struct.pack(f"<{len(values)}f", *values)) + extra


def ints(name: str, values: list[int]) -> bytes:
    body = number(1, len(values)) + number(2, 7) + message(8, name)
    return body + message(9, struct.pack(f"<{len(values)}q", *values))


def node(operator: str, inputs: list[str], outputs: list[str], *attributes: bytes, domain: str = "") -> bytes:
    body = b"".join(message(1, i) for i in inputs) + b"".join(message(2, o) for o in outputs)
    body += message(4, operator) + b"".join(message(5, a) for a in attributes)
    return body + (message(7, domain) if domain else b"")


def ints_attribute(name: str, values: list[int]) -> bytes:
    return message(1, name) + b"".join(number(8, v) for v in values) + number(20, 7)


def value_info(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(message(1, number(1, d) if isinstance(d, int) else message(2, d)) for d in shape)
    return message(1, name) + message(2, message(1, number(1, 1) + message(2, dims)))


def model(nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], initializers: list[bytes]) -> bytes:
    graph = b"".join(message(1, n) for n in nodes) + message(2, "g")
    graph += b"".join(message(5, i) for i in initializers)
    graph += b"".join(message(11, i) for i in inputs) + b"".join(message(12, o) for o in outputs)
    return number(1, 8) + message(7, graph) + message(8, number(2, 13))


def pooled(*, size: int = 32, extra_tensor: bytes = b"", domain: str = "", spin: bool = False) -> bytes:
    """(1, 1, size, size) -> maps (1, 2, size/4, size/4): the mean of each 4 x 4 patch, and its
    negative; logits: their means.

    `spin`: a model that computes for a very long time (a loop of 2^62 rounds). `domain`: of one node, for a custom one.
    """
    nodes = [
        node(
            "AveragePool",
            ["image"],
            ["mean"],
            ints_attribute("kernel_shape", [4, 4]),
            ints_attribute("strides", [4, 4]),
        ),
        node("Mul", ["mean", "sign"], ["maps"], domain=domain),
        node(
            "ReduceMean", ["maps"], ["logits"], ints_attribute("axes", [2, 3]), message(1, "keepdims") + number(20, 2)
        ),
    ]
    signs = [tensor("sign", (1, 2, 1, 1), [1.0, -1.0], extra_tensor)]
    inputs = [value_info("image", (1, 1, size, size))]
    outputs = [value_info("logits", (1, 2)), value_info("maps", (1, 2, size // 4, size // 4))]
    if spin:
        body = message(1, node("Identity", ["going_in"], ["going_out"])) + message(2, "body")
        body += message(1, node("Mul", ["carry_in", "one"], ["carry"]))
        body += message(11, message(1, "round") + message(2, message(1, number(1, 7) + message(2, b""))))
        body += message(11, message(1, "going_in") + message(2, message(1, number(1, 9) + message(2, b""))))
        body += message(11, value_info("carry_in", (1, 1, size, size)))
        body += message(12, message(1, "going_out") + message(2, message(1, number(1, 9) + message(2, b""))))
        body += message(12, value_info("carry", (1, 1, size, size)))
        loop = node("Loop", ["rounds", "", "image"], ["spun"], message(1, "body") + message(6, body) + number(20, 5))
        nodes[0] = node("AveragePool", ["spun"], ["mean"], ints_attribute("kernel_shape", [4, 4]),
                        ints_attribute("strides", [4, 4]))  # fmt: skip
        nodes.insert(0, loop)
        scalar = number(2, 7) + message(8, "rounds") + message(9, struct.pack("<q", 1 << 62))
        signs += [scalar, tensor("one", (1, 1, 1, 1), [1.0])]
    return model(nodes, inputs, outputs, signs)


def hungry(*, mebibytes: int = 65536) -> bytes:
    """A model that wants a tensor of so many MiB."""
    nodes = [
        node("Expand", ["image", "shape"], ["large"]),
        node(
            "ReduceMean", ["large"], ["logits"], ints_attribute("axes", [2, 3]), message(1, "keepdims") + number(20, 2)
        ),
    ]
    shape = ints("shape", [1, 1, mebibytes * 512, 512])
    return model(nodes, [value_info("image", (1, 1, 1, 1))], [value_info("logits", (1, "n"))], [shape])
