"""SIGTERM, which clusters send before they kill: work ends in order, with a line and the status that shells expect."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from weakref import WeakSet

Reading = TypeVar("Reading", bound=Generator[Any, None, None])
STATUS = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whoever keeps finished work on Ctrl-C keeps it now."""


class _State:
    asked = False  # SIGTERM came
    patient = False  # it is looked for, and raises nothing


_state = _State()


@contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, once; in another thread than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    _state.asked = False
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
        _state.asked = False


@contextmanager
def patience(patient: bool = True) -> Iterator[None]:
    """Inside, SIGTERM is kept for whoever calls `asked` (or, with False, raises at once as outside)."""
    before, _state.patient = _state.patient, patient
    try:
        if not patient and _state.asked:
            raise Terminated
        yield
    finally:
        _state.patient = before


def asked() -> bool:
    """Whether SIGTERM came."""
    return _state.asked


def pass_over_first(worker: int) -> None:
    """For workers that read ahead: a SIGTERM to all processes is for the main one, which ends them; a second ends it.

    Args:
        worker: its number, as torch's loader says.
    """
    del worker
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def closed_at_exit(reading: Reading) -> Reading:
    """A generator that reads through workers which pass over a SIGTERM. A program that ends while it is open would send
    them just one, and wait for them for ever."""
    _close_readers_at_exit()
    _readers.add(reading)
    return reading


_readers: WeakSet[Generator[Any, None, None]] = WeakSet()


@cache
def _close_readers_at_exit() -> None:
    """Registered after the handlers of multiprocessing and of torch's loader, and so run before them."""
    atexit.register(_close_readers)


def _close_readers() -> None:
    for reading in list(_readers):
        reading.close()


def _on_sigterm(number: int, frame: Any) -> None:
    del number, frame
    first, _state.asked = not _state.asked, True
    if first and not _state.patient:
        raise Terminated
