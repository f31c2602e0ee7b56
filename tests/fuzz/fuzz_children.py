"""Attempts in forked children of one warm process: code in C that crashes, hangs or takes all memory ends a child."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 10  # of the processor, for one attempt
BYTES = 1_500_000_000  # beyond what the warm process has
_WAIT = 300  # seconds that an attempt may sleep
_KILLED = f"ended by {-signal.SIGKILL}\n"
_EACH = 300  # attempts of a child, which starts as its parent is: what one leaves behind ends with it


class Outcome(NamedTuple):
    """How an attempt ended."""

    kind: str  # one of GOOD or BAD
    text: str  # what was said, or where it went wrong


GOOD = ("answered", "refused")
BAD = ("crash", "hang", "memory", "error", "silent")
"""A signal; too long; too much; an exception that nobody wrote words for; another answer than the input says."""


class Child:
    """Makes attempts, each `attempt(input, folder)` with a folder of the child's own.

    An attempt returns when it has an answer. It raises ValueError, TypeError or OSError when the library refuses the
    input, and AssertionError when the answer is wrong.
    """

    def __init__(self, attempt: Callable[[Any, Path], None], *, seconds: int = SECONDS, memory: int = BYTES) -> None:
        self.attempt = attempt
        self.seconds = seconds
        self.memory = memory
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
        self._pid = 0
        self._made = 0
        self._pipe: Connection | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *ignored: Any) -> None:
        self._end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, given: Any) -> Outcome:
        """One attempt; a second one when the system has killed the child, as it does where memory is short."""
        outcome = self._try(given)
        return self._try(given) if outcome.text.startswith(_KILLED) else outcome

    def _try(self, given: Any) -> Outcome:
        if self._made == _EACH:
            self._end(signal.SIGKILL)
        if not self._pid:
            self._start()
        assert self._pipe is not None
        self._made += 1
        try:
            self._pipe.send_bytes(pickle.dumps(given))
            if self._pipe.poll(_WAIT):
                return Outcome(*pickle.loads(self._pipe.recv_bytes()))
            os.kill(self._pid, signal.SIGXCPU)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            pass
        return self._died()

    def _died(self) -> Outcome:
        number = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        said = (self.folder / "said.txt").read_text(errors="replace")[-2000:]
        self._pid = 0
        self._end(signal.SIGKILL)
        kind = "hang" if number == -signal.SIGXCPU else "crash"
        return Outcome(kind, f"ended by {number}\n{said}")

    def _end(self, number: int) -> None:
        if self._pid:
            os.kill(self._pid, number)
            os.waitpid(self._pid, 0)
        if self._pipe is not None:
            self._pipe.close()
        self._pid, self._made, self._pipe = 0, 0, None

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                self._pipe.close()
                self._serve(theirs)
                status = 0
            finally:
                os._exit(status)  # nothing of the parent is cleaned up
        theirs.close()

    def _serve(self, pipe: Connection) -> None:
        place = self.folder / "work"
        with (self.folder / "said.txt").open("w") as said:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            faulthandler.enable(said)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            limit = _address_space() + self.memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            while True:
                try:
                    given = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    return
                said.truncate(0)
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                used = resource.getrusage(resource.RUSAGE_SELF)
                limit = int(used.ru_utime + used.ru_stime) + self.seconds + 1
                resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
                pipe.send_bytes(pickle.dumps(self._outcome(given, place)))
                shutil.rmtree(place, ignore_errors=True)

    def _outcome(self, given: Any, place: Path) -> tuple[str, str]:
        try:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                self.attempt(given, place)
        except AssertionError as error:
            return "silent", f"{error}\n{_where(error)}"
        except MemoryError as error:
            return "memory", _where(error)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            return ("refused", said) if _in_words(error) else ("error", f"{said}\n{_where(error)}")
        return "answered", ""


def _in_words(error: Exception) -> bool:
    """Whether somebody wrote down what is wrong, and it did not just happen."""
    if isinstance(error, (FileNotFoundError, IsADirectoryError)):
        return True
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return isinstance(error, (ValueError, TypeError, OSError)) and line.startswith(("raise", "fail("))


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-6:])[-2000:]


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 1 << 22
    return pages * resource.getpagesize()
