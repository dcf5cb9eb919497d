"""Trainings side by side: each in a process of its own with one thread, which is how networks this small train fastest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib
import torch

from core.protocols import Tracker

T = TypeVar("T")
Scalar = tuple[str, float, int]  # as ``Tracker.scalar`` takes them


class KeptTracker:
    """A tracker that keeps what it is told, for a process that has nowhere to show it."""

    def __init__(self) -> None:
        self.scalars: list[Scalar] = []
        self.notes: list[str] = []

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        yield from items

    def note(self, message: str) -> None:
        self.notes.append(message)


def side_by_side(
    train: Callable[..., T], arguments: Sequence[tuple[Any, ...]], description: str, tracker: Tracker, processes: int
) -> Iterator[T]:
    """``train(*each, tracker)`` for each of the ``arguments``, in their order; up to ``processes`` at a time, or all at once
    where there are fewer than twice as many: three on two cores end sooner together than two and then one.

    ``train`` must follow from its arguments alone: the results are then the same whatever the number of processes. What
    a process of its own tells its tracker is passed on when it has ended.
    """
    if processes == 1 or len(arguments) == 1:
        for each in arguments:
            with one_thread():
                result = train(*each, tracker)
            yield result
        return
    jobs = (joblib.delayed(_apart)(train, each) for each in arguments)
    at_once = len(arguments) if len(arguments) < 2 * processes else processes
    done = joblib.Parallel(at_once, return_as="generator")(jobs)
    for result, kept in tracker.track(done, description, len(arguments)):
        for scalar in kept.scalars:
            tracker.scalar(*scalar)
        for message in kept.notes:
            tracker.note(message)
        yield result


def _apart(train: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[T, KeptTracker]:
    kept = KeptTracker()
    with one_thread():
        return train(*arguments, kept), kept


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works with one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
