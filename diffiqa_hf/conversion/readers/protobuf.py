# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The wire format of protocol buffers, as far as TensorFlow's files need it."""

from collections.abc import Iterator


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: their numbers and values, integers or bytes."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        number, wire_type = key >> 3, key & 7
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


def submessage(message: memoryview, number: int) -> memoryview:
    """The last field of that number, which is the one that counts."""
    found = None
    for field, value in read_fields(message):
        if field == number:
            found = value
    if not isinstance(found, memoryview):
        raise ValueError(f"field {number} is missing")
    return found


def read_dimension(message: memoryview) -> int:
    size = 0
    for number, value in read_fields(message):
        if number == 1:
            size = value
    return size


def read_integers(message: memoryview) -> list[int]:
    """A packed list of integers."""
    values, position = [], 0
    while position < len(message):
        value, position = read_varint(message, position)
        values.append(value)
    return values


__all__ = ["read_dimension", "read_fields", "read_integers", "read_varint", "submessage"]
