"""onnxruntime-web for a page: from a folder, or by npm."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SECONDS = 300


def copy_runtime(to: Path, runtime: str | Path | None, scratch: Path) -> None:
    """Put the files of onnxruntime-web that a page needs into a new folder.

    Args:
        runtime: as npm unpacks it, or its `dist`; None = npm fetches it into `scratch`.

    Raises:
        ValueError: where it is not there, cut off, or cannot be fetched.
    """
    folder = _fetched(scratch) if runtime is None else Path(runtime)
    found = next((at for at in (folder, folder / "dist") if (at / RUNTIME_FILES[0]).is_file()), None)
    if found is None or any(not (found / name).is_file() for name in RUNTIME_FILES):
        raise ValueError(
            f"{folder} is not onnxruntime-web: it lacks one of {', '.join(RUNTIME_FILES)}; `npm pack {RUNTIME}` gets "
            "it, unpack the archive and name its folder"
        )
    if not _whole_wasm((found / RUNTIME_FILES[-1]).read_bytes()):
        raise ValueError(f"{found / RUNTIME_FILES[-1]} is cut off or no WebAssembly; unpack {RUNTIME} again")
    to.mkdir()
    for name in RUNTIME_FILES:
        shutil.copy(found / name, to)


def _whole_wasm(content: bytes) -> bool:
    """Whether the sections of a WebAssembly module end where its file does. Each is a byte that says its kind, its
    size in LEB128, and so many bytes."""
    at, end = 8, len(content)
    while at < end:
        at, size, shift = at + 1, 0, 0
        while at < end:
            byte = content[at]
            at, size, shift = at + 1, size | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        at += size
    return content[:4] == b"\0asm" and at == end


def _fetched(scratch: Path) -> Path:
    """onnxruntime-web, unpacked."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"npm is not there to fetch {RUNTIME}; install Node.js, or unpack the package's archive and name its "
            "folder as the runtime"
        )
    asked = [npm, "pack", "--silent", "--pack-destination", str(scratch), RUNTIME]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SECONDS, cwd=scratch, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"npm did not fetch {RUNTIME} within {_SECONDS} seconds; try again later") from error
    archive = next(scratch.glob("onnxruntime-web-*.tgz"), None)
    if done.returncode or archive is None:
        told = (done.stderr.strip() or "no archive came").splitlines()[-1]
        raise ValueError(
            f"npm could not fetch {RUNTIME} ({told}); fetch it elsewhere and name its folder as the runtime"
        )
    with tarfile.open(archive) as packed:
        packed.extractall(scratch / "runtime", filter="data")
    return scratch / "runtime" / "package"
