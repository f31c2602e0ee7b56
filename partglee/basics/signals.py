"""SIGTERM, which clusters send before they kill: work ends in order, with a line and the status that shells expect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def _on_sigterm(number: int, frame: Any) -> None:
    del number, frame
    first, _state.asked = not _state.asked, True
    if first and not _state.patient:
        raise Terminated
