"""A small share of the damaged inputs (`make fuzz` makes thousands), and what the children that try them notice."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz_children import BAD, Child
from fuzz_kinds import KINDS, Kind
from fuzz_run import attempts

SHARE = 3  # attempts for each hundredth that a kind has


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_inputs_have_an_answer_or_are_refused(kind: Kind) -> None:
    failed = [(given, outcome) for given, outcome in attempts(kind, kind.share * SHARE, key=1) if outcome.kind in BAD]
    assert not failed, f"{len(failed)}; the first is {failed[0][0]!r}: {failed[0][1].kind}, {failed[0][1].text}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_undamaged_inputs_have_an_answer(kind: Kind) -> None:
    with Child(kind.attempt) as child:
        outcomes = [child(given) for given in kind.whole]
    assert {outcome.kind for outcome in outcomes} == {"answered"}, outcomes


def crash(given: Any, folder: Path) -> None:
    ctypes.string_at(0)


def hang(given: Any, folder: Path) -> None:
    while True:
        pass


def take_memory(given: Any, folder: Path) -> None:
    bytearray(1 << 34)  # more than the warm process may have left free on its heap, which no limit counts


def wrong(given: Any, folder: Path) -> None:
    raise AssertionError("two is one")


def accident(given: Any, folder: Path) -> None:
    int(given)  # a ValueError that nobody wrote words for


def refuse(given: Any, folder: Path) -> None:
    raise ValueError("it is wrong")


def answer(given: Any, folder: Path) -> None:
    (folder / "a").touch(exist_ok=False)  # the folder is empty


def limits_are_kept() -> bool:
    """Whether this system refuses a process what is beyond its limit of address space; not all containers do."""
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
            mmap.mmap(-1, 1 << 34)
        except OSError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("attempt", "kind"),
    [
        (crash, "crash"), (hang, "hang"), (take_memory, "memory"), (wrong, "silent"), (accident, "error"),
        (refuse, "refused"), (answer, "answered"),
    ],
)  # fmt: skip
def test_every_end_is_noticed(attempt: Callable[[Any, Path], None], kind: str) -> None:
    if kind == "memory" and not limits_are_kept():
        pytest.skip("this system keeps no limit on the address space of a process")
    with Child(attempt, seconds=1, memory=500_000_000) as child:
        for _ in range(3 if kind != "hang" else 1):  # the next one starts anew
            outcome = child("x")
            assert outcome.kind == kind, outcome
