"""Draw the pictures of docs/gallery.md: run each of its commands, and put what it draws under the name that follows.

python tools/make_gallery.py [--only officer]
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from pathlib import Path

from partglee.basics.arguments import ArgumentParser
from partglee.cli import main as partglee

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
_PAIR = re.compile(r"```bash\n(partglee predict [^\n]*)\n```\n\n!\[[^\]]*\]\((images/[^)]+)\)")


def pictures(text: str) -> list[tuple[list[str], str]]:
    """Words of each command that a picture follows, and the picture's place beside the page."""
    return [(shlex.split(command), place) for command, place in _PAIR.findall(text)]


def main() -> None:
    """Draw all, or some."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="pictures of these names, without ending")
    wanted = parser.parse_args().only
    for words, place in pictures(PAGE.read_text(encoding="utf-8")):
        target = PAGE.parent / place
        if wanted and target.stem not in wanted:
            continue
        photo = ROOT / words[2]
        with tempfile.TemporaryDirectory() as folder:
            words[2], words[words.index("--output") + 1] = str(photo), folder
            if partglee(words[1:]):
                raise SystemExit(f"{shlex.join(words)} failed")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / photo.name, target)
        print(f"{target.relative_to(ROOT)}, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
