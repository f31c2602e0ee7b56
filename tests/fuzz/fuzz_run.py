"""Thousands of damaged inputs, and a table of how they ended: `python tests/fuzz/fuzz_run.py --attempts 20000`."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: threads do not survive a fork

from fuzz_children import BAD, GOOD, Child, Outcome
from fuzz_kinds import KINDS, Kind
from hypothesis import HealthCheck, Phase, given, seed, settings

from partglee.basics.arguments import ArgumentParser


def attempts(kind: Kind, number: int, *, key: int) -> list[tuple[Any, Outcome]]:
    """(input, outcome) of `number` inputs of a kind, which follow from the key; of good outcomes without the input."""
    made: list[tuple[Any, Outcome]] = []
    with Child(kind.attempt) as child:

        @seed(key)
        @settings(
            max_examples=number, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(kind.inputs)
        def attempt(damaged: Any) -> None:
            outcome = child(damaged)
            made.append((damaged if outcome.kind in BAD else None, outcome))

        attempt()
    return made


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=20_000, help="over all kinds (%(default)s)")
    parser.add_argument("--kinds", nargs="+", help="beginnings of names of kinds; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="inputs that failed are written there")
    arguments = parser.parse_args()
    wanted = [kind for kind in KINDS if not arguments.kinds or kind.name.startswith(tuple(arguments.kinds))]
    total: Counter[str] = Counter()
    print("| kind | attempts | refused | answered | crashes | hangs | memory | other errors | silent | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    failures = []
    for kind in wanted:
        start = time.perf_counter()
        number = max(1, arguments.attempts * kind.share // sum(k.share for k in wanted))
        made = attempts(kind, number, key=arguments.seed)
        counts = Counter(outcome.kind for _, outcome in made)
        total.update(counts)
        _print_row(kind.name, counts, time.perf_counter() - start)
        failures += [(kind, damaged, outcome) for damaged, outcome in made if outcome.kind in BAD]
    _print_row("all", total, 0)
    for place, (kind, damaged, outcome) in enumerate(failures):
        print(f"\n{outcome.kind}: {kind.name}: {outcome.text.strip()[-1200:]}", file=sys.stderr)
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{place}_{kind.name.split()[0].strip(':')}.pickle").write_bytes(pickle.dumps(damaged))
    return 1 if failures else 0


def _print_row(name: str, counts: Counter[str], seconds: float) -> None:
    shown = [counts[key] for key in (*reversed(GOOD), "crash", "hang", "memory", "error", "silent")]
    print(f"| {name} | {counts.total()} | {' | '.join(map(str, shown))} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
