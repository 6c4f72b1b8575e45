"""Moves the data of a saved graph to whole pages.

onnxruntime 1.31.1 writes packed weights one behind the other, at whatever byte they come to lie, and maps them from there;
its kernels find their parts relative to an aligned start, so that anything else is read wrongly or crashes. The graph's
file is protobuf, of which only the entries that say where data lies are touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = 4096

# Numbers of fields in onnx.proto (ONNX 1.20): ModelProto.graph, GraphProto.initializer, TensorProto.external_data, and
# the key and value of a StringStringEntryProto.
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _KEY, _VALUE = 7, 5, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types (protobuf's encoding guide)
_PACKED = re.compile(rb"\|(\d+);(\d+);")  # in "Operator+hash|offset;length;checksum", once per buffer

Edit = Callable[[bytes], bytes]


def align(model: Path, data: Path) -> None:
    """Rewrite a graph and its data file so that every piece of data begins on a page.

    Args:
        model: The graph's file.
        data: The only data file that it refers to.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The graph's file is not protobuf, or refers to data that is not there.
    """
    moved = data.with_name(f"{data.name}.moved")
    with data.open("rb") as source, moved.open("wb") as target:

        def move(offset: int, length: int) -> int:
            place = -(-target.tell() // PAGE) * PAGE
            target.seek(place)
            source.seek(offset)
            while length:
                part = source.read(min(length, 1 << 20))
                if not part:
                    raise ValueError(f"{data} ends before {offset + length}")
                target.write(part)
                length -= len(part)
            return place

        def tensor(content: bytes) -> bytes:
            entries = dict(_entry(value) for number, value in _fields(content) if number == _EXTERNAL_DATA)
            if b"offset" not in entries:
                return content
            # In the order of the entries, so that values keep theirs.
            where = move(int(entries[b"offset"]), int(entries[b"length"]))

            def entry(content: bytes) -> bytes:
                key, value = _entry(content)
                if key == b"offset":
                    value = str(where).encode()
                elif key.startswith(b"prepacked"):
                    value = _PACKED.sub(
                        lambda found: b"|%d;%s;" % (move(int(found[1]), int(found[2])), found[2]), value
                    )
                return _bytes(_KEY, key) + _bytes(_VALUE, value)

            return _edited(content, _EXTERNAL_DATA, entry)

        def graph(content: bytes) -> bytes:
            return _edited(content, _INITIALIZER, tensor)

        rewritten = _edited(model.read_bytes(), _GRAPH, graph)
    model.write_bytes(rewritten)
    moved.replace(data)


def _entry(content: bytes) -> tuple[bytes, bytes]:
    found = dict(_fields(content))
    return found.get(_KEY, b""), found.get(_VALUE, b"")


def _edited(content: bytes, wanted: int, edit: Edit) -> bytes:
    """Return a message in which every field of one number went through ``edit``; the rest is copied as it is."""
    parts = []
    for number, start, begin, end in _spans(content):
        parts.append(_bytes(wanted, edit(content[begin:end])) if number == wanted else content[start:end])
    return b"".join(parts)


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, _, begin, end in _spans(content):
        yield number, content[begin:end]


def _spans(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field's number, where its tag starts, and where its value begins and ends."""
    at = 0
    while at < len(content):
        start = at
        tag, at = _varint(content, at)
        begin, kind = at, tag & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            length, begin = _varint(content, at)
            at = begin + length
        else:
            raise ValueError(f"byte {start} is no protobuf")
        if at > len(content):
            raise ValueError(f"the field at byte {start} is cut short")
        yield tag >> 3, start, begin, at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"the number before byte {at} does not end")


def _bytes(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
