"""Pickles of strangers: plain data is read, everything else refused before it runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partglee.data.prepare.raw_files import load_plain_pickle


class Caller:
    """Pickles to a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    value = [{"a": 1, "b": 2.5, "c": None, "d": True}, ("x", "été", 10**30), ["nested", [[]]], {}]
    (tmp_path / "x.p").write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain_pickle(tmp_path / "x.p") == value


def test_text_of_python_2(tmp_path: Path) -> None:
    r"""Byte strings as Python 2 wrote them: SHORT_BINSTRING, and STRING of protocol 0."""
    (tmp_path / "x.p").write_bytes(b"\x80\x02]q\x00(U\x04caf\xe9U\x01be.")
    assert load_plain_pickle(tmp_path / "x.p") == ["café", "b"]
    (tmp_path / "x.p").write_bytes(b"(dp0\nS'sent'\np1\nS'left man'\np2\ns.")
    assert load_plain_pickle(tmp_path / "x.p") == {"sent": "left man"}


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr])
def test_a_call_is_refused_before_it_happens(tmp_path: Path, function: Any, protocol: int) -> None:
    marker = tmp_path / "was_run"
    arguments = {
        os.mkdir: (str(marker),),
        eval: (f"__import__('os').mkdir({str(marker)!r})",),
        exec: (f"import os; os.mkdir({str(marker)!r})",),
        getattr: (os, "system"),
    }[function]
    harmless = [1, "two"]
    value = [harmless, Caller(function, *arguments)] if function is not getattr else [Caller(getattr, harmless, "pop")]
    (tmp_path / "x.p").write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(ValueError, match="nothing of it was run"):
        load_plain_pickle(tmp_path / "x.p")
    assert not marker.exists()


@pytest.mark.parametrize("value", [OrderedDict(a=1), np.float64(1), np.zeros(3), Path("x"), 1j, {1, 2}, range(3)])
def test_classes_are_refused_too(tmp_path: Path, value: Any) -> None:
    (tmp_path / "x.p").write_bytes(pickle.dumps([value], protocol=2))
    with pytest.raises(ValueError, match="it asks for"):
        load_plain_pickle(tmp_path / "x.p")


def test_persistent_and_extension_codes_are_refused(tmp_path: Path) -> None:
    for content in (b"Pname\n.", b"\x80\x02U\x04nameQ.", b"\x80\x02\x82\x01."):
        (tmp_path / "x.p").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.p"):
            load_plain_pickle(tmp_path / "x.p")


@pytest.mark.parametrize("content", [b"", b"\x80\x02]q\x00(", b"no pickle at all", b"\x80\x02}(U\x01au."])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.p"):
        load_plain_pickle(tmp_path / "x.p")
    with pytest.raises(ValueError, match="does not exist"):
        load_plain_pickle(tmp_path / "y.p")
