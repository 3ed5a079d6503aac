# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The order in which a training sees its faces, and the batches of it."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from .checkpoints import TrainingState


class ShuffledKeys:
    """
    Endless batches of (epoch, index) keys: all faces in a random order, then all in another, and so on.

    They are one sequence, which the processes share: from position `start` on, batch b of process p has the
    (b * num_processes + p)-th part of `batch_size` keys. So a run that goes on from the position that it came to sees
    each face once in each epoch, whatever its batches and processes are then.

    Args:
        length: Number of faces.
        batch_size: Keys of a batch.
        seed: Of the orders.
        start: Position in the sequence.
        process, num_processes: Which this one is, of how many.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: int, process: int, num_processes: int):
        if not length:
            raise ValueError("there is no face to train on")
        self.length, self.batch_size, self.seed, self.start = length, batch_size, seed, start
        # Positions that all processes take for a batch of each, and where those of this one begin.
        self.stride, self.offset = batch_size * num_processes, batch_size * process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first, epoch, order = self.start + self.offset, -1, np.empty(0, np.int64)
        while True:
            keys = []
            for position in range(first, first + self.batch_size):
                if epoch != position // self.length:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
            first += self.stride


class PeopleKeys:
    """
    Endless batches of (batch number, index) keys with several faces of each person: people in random order, of each up
    to `faces_per_person` faces, until the batch is full. Who has one face alone is left out. A position of the
    sequence is a batch: see [`ShuffledKeys`].

    Args:
        people: (N,) whole numbers, the person of each face.
        faces_per_person: At most so many of a person in a batch.
        batch_size, seed, start, process, num_processes: As there.
    """

    def __init__(
        self,
        people: np.ndarray,
        batch_size: int,
        faces_per_person: int,
        seed: int,
        start: int,
        process: int,
        num_processes: int,
    ):
        order = np.argsort(people, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(people[order])) + 1)
        self.groups = [group for group in groups if len(group) > 1]
        if not self.groups:
            raise ValueError("nobody has two faces to compare")
        self.batch_size, self.faces_per_person, self.seed, self.start = batch_size, faces_per_person, seed, start
        self.stride, self.offset = num_processes, process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self.start + self.offset
        while True:
            rng = np.random.default_rng([self.seed, batch])
            keys = []
            for person in rng.permutation(len(self.groups)):
                chosen = rng.permutation(self.groups[person])[: self.faces_per_person]
                keys += [(batch, int(index)) for index in chosen]
                # One free place is none: a person's only face in a batch has no pair.
                if len(keys) >= self.batch_size - 1:
                    break
            yield keys[: self.batch_size]
            batch += self.stride


def seed_batch(seed: int, position: int) -> None:
    """Seeds torch's generator, which dropout draws from, for a batch: by the run's seed and its position alone."""
    torch.manual_seed(int(np.random.default_rng([seed, position]).integers(2**62)))


class TimedBatches:
    """
    Batches, and how long whoever takes them has waited for them.

    Attributes:
        waited (`float`): Seconds, from the first batch on.
    """

    def __init__(self, batches: Iterable[Any]):
        self._batches = iter(batches)
        self._told = 0.0
        self.waited = 0.0

    def __iter__(self) -> "TimedBatches":
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - start

    def waited_since(self) -> float:
        """Seconds since this was last asked."""
        told, self._told = self._told, self.waited
        return self.waited - told


def training_batches(
    faces: torch.utils.data.Dataset, keys: ShuffledKeys | PeopleKeys, state: TrainingState, workers: int
) -> TimedBatches:
    """
    The batches of a process, collated, for ever.

    With each the position of the state moves on, and torch's generator is seeded by the batch's own position: what
    dropout draws is then another on each process, and the same in a run that was stopped and goes on.
    """
    return TimedBatches(_batches(faces, keys, state, workers))


def _batches(
    faces: torch.utils.data.Dataset, keys: ShuffledKeys | PeopleKeys, state: TrainingState, workers: int
) -> Iterator[Any]:
    loader = torch.utils.data.DataLoader(faces, batch_sampler=keys, num_workers=workers, generator=torch.Generator())
    state.position = keys.start
    for batch in loader:
        seed_batch(keys.seed, state.position + keys.offset)
        state.position += keys.stride
        yield batch
