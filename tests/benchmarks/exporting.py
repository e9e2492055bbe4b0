"""Export a large fix set in every format and show the time and the memory it takes.

    python -m tests.benchmarks.exporting --check

Freezes 10,000 and 100,000 samples of a data set with a CSV manifest, one in ten of them
relabelled, in a scratch folder with servers of its own, and exports each in every format,
each in a process of its own. There are no image files: the formats that carry images get
stand-ins of 64 bytes each. Prints the seconds, the size, and how much the process grew while
it exported. With --check: each format of 100,000 in less than 30 s, and none grows by more
than 10 MiB over what it does for 10,000.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.scratch import ROOT, scratch

SIZES = (10_000, 100_000)
SECONDS, GROWTH = 30.0, 10  # MiB

PREPARE = """
import django, pathlib, sys
django.setup()
from django.db import connection
from django.utils import timezone
from mining.recipe import Recipe, RecipeSample
from reviewapp.models import Dataset, FixSet, Recipe as Stored, User
from tests.benchmarks.exporting import digest_of, key_of
root, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
user, _ = User.objects.get_or_create(username="bench")
name = f"set-{rows}"
dataset = Dataset.objects.create(
    name=name, slug=name, root=str(root), manifest=f"{name}.csv"
)
with (root / dataset.manifest).open("w") as file:
    file.write("path,label\\n")
    file.writelines(f"{key_of(n)},class {n % 10}\\n" for n in range(rows))
fix_set = FixSet.objects.create(dataset=dataset, name=name, created_by=user, size=rows)
with connection.cursor() as cursor:
    columns = (
        "fix_set_id, sample_key, digest, split, original_label, true_label, label,"
        " predicted, verdict, causes, p_true, confidence, reviewer, reviewed_at, note"
    )
    with cursor.copy(f"COPY reviewapp_fixitem ({columns}) FROM STDIN") as copy:
        for n in range(rows):
            old, said = f"class {n % 10}", f"class {(n + 1) % 10}"
            wrong = n % 10 == 0
            copy.write_row((
                fix_set.pk, key_of(n), digest_of(n), "train", old, old,
                said if wrong else old, said, "relabel" if wrong else "confirm",
                ["blur"], 0.1, 0.8, "bench", timezone.now(), "",
            ))
    cursor.execute("ANALYZE reviewapp_fixitem")
FixSet.objects.filter(pk=fix_set.pk).update(digest="0" * 64, frozen_at=timezone.now())
recipe = Recipe(samples=tuple(
    RecipeSample(key_of(n), digest_of(n), "class 1", "class 0", "hard")
    for n in range(rows)
))
Stored.objects.create(
    fix_set=fix_set, settings={}, state="done", digest=recipe.digest,
    content=recipe.to_json(),
)
"""

EXPORT = """
import django, json, sys, time
django.setup()
from pathlib import Path
from reviewapp import exporting
from reviewapp.actions.exports import request_export, run_export
from reviewapp.models import FixSet, User
from tests.benchmarks.exporting import stand_in, usage
exporting.read_bytes = stand_in
fix_set, by = FixSet.objects.get(name=sys.argv[1]), User.objects.get()
small = FixSet.objects.get(name="set-10")
def export(fix_set):
    made = run_export(export=request_export(fix_set=fix_set, format=sys.argv[2], by=by))
    assert made.state == "done", made.message
    return made
export(small)  # what is imported and cached once
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before, started = usage("VmRSS"), time.monotonic()
made = export(fix_set)
seconds = time.monotonic() - started
print(json.dumps([seconds, made.size, usage("VmHWM") - before]))
"""


def key_of(number: int) -> str:
    """Return the key of a sample; keys are in the order of numbers."""
    return f"folder-{number // 1000:03}/image-{number:08}.jpg"


def stand_in(url: str) -> bytes:
    """Return 64 bytes for an image that does not exist."""
    return url.rpartition("/")[2].encode().ljust(64)


def digest_of(number: int) -> str:
    """Return the SHA-256 of a stand-in."""
    import hashlib

    return hashlib.sha256(stand_in(key_of(number))).hexdigest()


def usage(name: str) -> int:
    """Return a figure of this process's memory in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value)


def main() -> int:
    """Measure, print, and return 1 when --check finds a figure missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    missed: list[str] = []
    with scratch() as (folder, environment):
        for rows in (10, *SIZES):
            _run(PREPARE, [str(folder), str(rows)], environment)
        print(f"{'format':12} {'10,000':>18} {'100,000':>18}   MiB written")
        for kind in _formats(environment):
            found = [
                json.loads(_run(EXPORT, [f"set-{rows}", kind], environment))
                for rows in SIZES
            ]
            (few_s, _, few), (many_s, size, many) = found
            print(
                f"{kind:12} {few_s:6.2f} s {few / 1024:+5.1f} MiB"
                f" {many_s:6.2f} s {many / 1024:+5.1f} MiB   {size / 2**20:6.1f}",
                flush=True,
            )
            if many_s >= SECONDS:
                missed.append(f"{kind}: {many_s:.1f} s, not under {SECONDS:.0f}")
            if many - few > GROWTH * 1024:
                missed.append(f"{kind}: grew {(many - few) / 1024:.0f} MiB more")
    for line in missed:
        print(f"MISSED {line}")
    return 1 if check and missed else 0


def _formats(environment: dict[str, str]) -> list[str]:
    code = (
        "import django; django.setup(); from reviewapp.models import Export;"
        "print(*Export.Format.values)"
    )
    return _run(code, [], environment).split()


def _run(code: str, arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
