"""Import predictions made elsewhere and show the time and the memory it takes.

    python -m tests.benchmarks.importing --check

Makes a data set of 1,000,000 samples and 10 classes, without images, and predictions of
which one in ten is wrong, in every format, in a scratch folder with servers of its own.
Prints the time and the growth of the memory of `manage.py import_predictions`, in a process
of its own for each, and the growth of one tenth of the rows beside it. With --check:
Parquet and NPZ in less than 60 s each, and their peaks at most 10 % apart.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.scratch import ROOT, wait_for_stop

CLASSES = [f"class {n}" for n in range(10)]
FORMATS = ("parquet", "npz", "csv", "jsonl")
CHECKED = ("parquet", "npz")
SECONDS, GROWTH = 60.0, 0.10
BLOCK = 50_000

PREPARE = """
import django, sys
django.setup()
from django.db import connection
from reviewapp.models import Dataset, Label
rows = int(sys.argv[1])
dataset = Dataset.objects.create(name=sys.argv[2], slug=sys.argv[2], root="memory://data")
for n in range(10):
    Label.objects.create(dataset=dataset, name=f"class {n}", index=n)
with connection.cursor() as cursor:
    cursor.execute(
        "INSERT INTO reviewapp_sample (dataset_id, key, label_id, original_label_id,"
        " split, digest, size, attributes) SELECT %s, format('test/%%s.jpg', lpad(n::text, 8,"
        " '0')), l.id, l.id, 'test', encode(sha256(n::text::bytea), 'hex'), 1000, '{}'"
        " FROM generate_series(0, %s - 1) n JOIN reviewapp_label l"
        " ON l.dataset_id = %s AND l.index = n %% 10 ORDER BY n",
        [dataset.pk, rows, dataset.pk],
    )
    cursor.execute("VACUUM ANALYZE reviewapp_sample")
"""

IMPORT = """
import django, json, sys, time
django.setup()
from django.core.management import call_command
from django.db import connection
import reviewapp.importing, pyarrow.parquet
from mining.pace import peak_memory_mb
connection.ensure_connection()
started = time.monotonic()
call_command("import_predictions", sys.argv[1], sys.argv[2], model=sys.argv[3])
seconds = time.monotonic() - started
print(json.dumps({"seconds": seconds, "peak_mb": peak_memory_mb()}))
"""


def blocks(rows: int) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """Yield keys and probabilities; a tenth of the predictions is wrong."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        n = np.arange(start, min(start + BLOCK, rows))
        odds = rng.gamma(0.3, size=(len(n), 10)) + 1e-6
        best = np.where(rng.random(len(n)) < 0.1, (n + 1 + n // 10 % 9) % 10, n % 10)
        # From unsure to sure: about one in twenty of the right ones is a near miss.
        odds[np.arange(len(n)), best] += odds.sum(axis=1) * rng.uniform(1, 9, len(n))
        probs = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        yield [f"test/{i:08d}.jpg" for i in n.tolist()], probs


def write(folder: Path, rows: int) -> None:
    """Write the predictions in every format."""
    keys, probs = zip(*blocks(rows), strict=True)
    np.savez(
        folder / "p.npz",
        keys=np.array([key for part in keys for key in part]),
        pred_probs=np.concatenate(probs),
    )
    columns = ["key", *CLASSES]
    schema = pa.schema(
        [(n, pa.string() if n == "key" else pa.float32()) for n in columns]
    )
    with (
        pq.ParquetWriter(folder / "p.parquet", schema) as parquet,
        (folder / "p.csv").open("w") as csv,
        (folder / "p.jsonl").open("w") as jsonl,
    ):
        csv.write(",".join(columns) + "\n")
        for names, block in zip(keys, probs, strict=True):
            parquet.write_table(pa.table([pa.array(names), *block.T], schema=schema))
            for name, row in zip(names, block.tolist(), strict=True):
                csv.write(f"{name},{','.join(f'{p:.7g}' for p in row)}\n")
                jsonl.write(json.dumps({"key": name, "pred_probs": row}) + "\n")


def run(code: str, *arguments: str, environment: dict[str, str]) -> str:
    """Run a piece of Python in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def measure(rows: int, environment: dict[str, str], folder: Path) -> dict[str, object]:
    """Return format -> seconds and peak memory of importing `rows` rows."""
    name = f"rows-{rows}"
    files = folder / name
    files.mkdir()
    write(files, rows)
    run(PREPARE, str(rows), name, environment=environment)
    found: dict[str, object] = {}
    for kind in FORMATS:
        out = run(IMPORT, name, str(files / f"p.{kind}"), kind, environment=environment)
        found[kind] = json.loads(out.splitlines()[-1])
    return found


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hardmine-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
            "HARDMINE_VAR": str(folder / "var"),
        }
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
        few = measure(options.rows // 10, environment, folder)
        many = measure(options.rows, environment, folder)
        wait_for_stop(folder)  # before the folder goes
    missed = False
    for kind in FORMATS:
        small, large = few[kind], many[kind]
        growth = large["peak_mb"] / small["peak_mb"] - 1
        missed |= kind in CHECKED and (large["seconds"] >= SECONDS or growth >= GROWTH)
        print(
            f"{kind:8} {options.rows:,} rows x {len(CLASSES)}: {large['seconds']:6.1f} s, "
            f"{options.rows / large['seconds']:,.0f} rows/s; peak {large['peak_mb']:.0f} "
            f"MiB, {growth:+.1%} against {options.rows // 10:,} rows"
        )
    print(f"targets for {' and '.join(CHECKED)}: {SECONDS:.0f} s, {GROWTH:.0%}")
    return int(options.check and missed)


if __name__ == "__main__":
    sys.exit(main())
