# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The wire format of protocol buffers, as far as TensorFlow's files need it."""

from collections.abc import Iterator


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: their numbers and values, integers or bytes."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: int | memoryview
        if wire_type == 0:
            value, position = read_varint(message, position)
        elif wire_type in (1, 2, 5):
            length = {1: 8, 5: 4}.get(wire_type)
            if length is None:
                length, position = read_varint(message, position)
            if position + length > len(message):
                raise ValueError("a field ends beyond its message")
            value = message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire_type}")
        yield number, value


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError("an integer of more than 64 bits")


def as_message(value: int | memoryview) -> memoryview:
    """The bytes of a field that is a message or a string."""
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def submessage(message: memoryview, number: int) -> memoryview:
    """The last field of that number, which is the one that counts."""
    found = None
    for field, value in read_fields(message):
        if field == number:
            found = value
    if not isinstance(found, memoryview):
        raise ValueError(f"field {number} is missing")
    return found


def _dimension(message: memoryview) -> int:
    size = 0
    for number, value in read_fields(message):
        if number == 1 and isinstance(value, int):
            size = value
    return size


def read_shape(value: int | memoryview) -> list[int]:
    """The sizes in a `TensorShapeProto`."""
    return [_dimension(as_message(dimension)) for field, dimension in read_fields(as_message(value)) if field == 2]


def read_integers(message: memoryview) -> list[int]:
    """A packed list of integers."""
    values, position = [], 0
    while position < len(message):
        value, position = read_varint(message, position)
        values.append(value)
    return values


__all__ = ["as_message", "read_fields", "read_integers", "read_shape", "read_varint", "submessage"]
