"""The command line: `python -m mining scan ROOT CHECKPOINT`, and `train`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mining.artefact import write_outcomes
from mining.confusion import confusion_matrix, top_confusions
from mining.exceptions import SHOWN_PROBLEMS, ClassMismatch, EmptySource, MiningError
from mining.pace import Pace, bottleneck
from mining.sources import Source, open_source
from mining.sources.files import open_binary
from mining.specs import read_spec, unseen
from mining.training_cli import add_train
from mining.types import (
    SPLITS,
    Decode,
    Device,
    Outcome,
    Precision,
    SampleRef,
    ScanSettings,
    SourceEntry,
)

EXIT_REFUSED = 2


@dataclass(slots=True)
class _Tally:
    """What the summary needs of the outcomes, not the outcomes themselves."""

    true: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def watch(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Yield the outcomes on, counting them."""
        for outcome in outcomes:
            if outcome.predicted is None:
                self.unreadable.append(f"{outcome.key}: {outcome.error}")
            else:
                self.true.append(outcome.true)
                self.predicted.append(outcome.predicted)
            yield outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 when a MiningError refused it."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except MiningError as error:
        sys.stderr.write(f"mining: {error}\n")
        return EXIT_REFUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mining", description=__doc__)
    commands = parser.add_subparsers(required=True)
    scan = commands.add_parser(
        "scan", help="run a model over a data set, list its errors"
    )
    scan.add_argument("root", help="folder or URL of the data set")
    scan.add_argument(
        "checkpoint", help="model file, its spec beside it as <file>.json"
    )
    scan.add_argument("--manifest", help="CSV, JSONL or Parquet under the root")
    scan.add_argument("--split", choices=[name for name in SPLITS if name])
    scan.add_argument(
        "--out", type=Path, help="write every outcome to this Parquet file"
    )
    _add_settings(scan)
    scan.set_defaults(run=_scan)
    add_train(commands)
    return parser


def _add_settings(scan: argparse.ArgumentParser) -> None:
    defaults = ScanSettings()
    scan.add_argument(
        "--batch-size",
        type=int,
        default=defaults.batch_size,
        help="images at once; 0 finds a good number (default)",
    )
    scan.add_argument(
        "--device",
        choices=get_args(Device),
        default=defaults.device,
        help="where to run",
    )
    scan.add_argument(
        "--precision",
        choices=get_args(Precision),
        default=defaults.precision,
        help="what to compute in; near ties are computed again in float32",
    )
    scan.add_argument(
        "--decode",
        choices=get_args(Decode),
        default=defaults.decode,
        help="where JPEGs are decoded when the model runs on a GPU",
    )
    scan.add_argument(
        "--workers",
        type=int,
        default=defaults.workers,
        help="threads that decode and, on a CPU, run the model; 0 takes one per CPU",
    )
    scan.add_argument(
        "--compile", action="store_true", help="optimise the model with torch.compile"
    )


def _scan(options: argparse.Namespace) -> None:
    settings = _settings(options)
    spec = read_spec(options.checkpoint)
    _check_there(options.checkpoint)
    source = open_source(options.root, options.manifest)
    total = _count(source, options.split, spec.classes)
    # Here, so that everything above answers at once: torch takes seconds to import.
    from mining.checkpoints import load_model  # noqa: PLC0415 (loads torch)
    from mining.scan import scan_samples  # noqa: PLC0415 (loads torch)

    predictor = load_model(
        options.checkpoint,
        spec,
        device=settings.device,
        precision=settings.precision,
        compile_model=settings.compile,
    )
    tally, pace = _Tally(), Pace()
    with _progress() as progress:
        task = progress.add_task("Scanning", total=total)
        batches = scan_samples(
            predictor,
            _samples(source, options.split, spec.classes),
            settings=settings,
            preprocessing=spec.preprocessing,
            on_batch=lambda done: progress.advance(task, done),
            pace=pace,
        )
        outcomes = tally.watch(chain.from_iterable(batches))
        if options.out is None:
            deque(outcomes, maxlen=0)  # only the tally is wanted
        else:
            write_outcomes(options.out, outcomes, classes=spec.classes)
    _report(tally, spec.classes)
    _report_pace(pace.to_dict())


def _settings(options: argparse.Namespace) -> ScanSettings:
    try:
        return ScanSettings(
            batch_size=options.batch_size,
            device=options.device,
            precision=options.precision,
            decode=options.decode,
            workers=options.workers,
            compile=options.compile,
        )
    except ValueError as error:
        raise MiningError(f"{error}.") from error


def _check_there(checkpoint: str) -> None:
    try:
        open_binary(checkpoint).close()
    except OSError as error:
        raise unseen(checkpoint, error) from error


def _chosen(source: Source, split: str | None) -> Iterator[SourceEntry]:
    return (entry for entry in source.entries() if split in (None, entry.split))


def _count(source: Source, split: str | None, classes: Sequence[str]) -> int:
    """Count the samples; a data set may lack a class, but have none of its own."""
    labels = Counter(entry.label for entry in _chosen(source, split))
    if not labels:
        raise EmptySource(f"{source.root} has no images in the split {split}.")
    if not labels.keys() <= set(classes):
        raise ClassMismatch(model=classes, dataset=sorted(labels))
    return labels.total()


def _samples(
    source: Source, split: str | None, classes: Sequence[str]
) -> Iterator[SampleRef]:
    index = {name: position for position, name in enumerate(classes)}
    for number, entry in enumerate(_chosen(source, split), start=1):
        yield SampleRef(number, entry.key, entry.url, index[entry.label])


class _Speed(ProgressColumn):
    """Images per second of the last while."""

    def render(self, task: Task) -> Text:
        """Return the number, or nothing before there is one."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _report(tally: _Tally, classes: Sequence[str]) -> None:
    console = Console()
    matrix = confusion_matrix(tally.true, tally.predicted, len(classes))
    rows = top_confusions(matrix, classes, n=20)
    if rows:
        table = Table("Actual", "Predicted")
        table.add_column("Count", justify="right")
        table.add_column("Share", justify="right")
        for row in rows:
            table.add_row(
                Text(row.actual),
                Text(row.predicted),
                f"{row.count:,}",
                f"{100 * row.share:.1f} %",
            )
        console.print(table)
    images = len(tally.true)
    errors = images - int(matrix.trace())
    rate = errors / images if images else 0.0
    console.print(
        f"{errors:,} errors ({100 * rate:.1f} %) in {images:,} images", highlight=False
    )
    if tally.unreadable:
        _report_unreadable(console, tally.unreadable)


def _report_unreadable(console: Console, reasons: Sequence[str]) -> None:
    noun = "image" if len(reasons) == 1 else "images"
    console.print(f"{len(reasons):,} {noun} could not be read:", highlight=False)
    for reason in reasons[:SHOWN_PROBLEMS]:
        console.print(f"  {reason}", markup=False, highlight=False)
    if len(reasons) > SHOWN_PROBLEMS:
        console.print(f"  and {len(reasons) - SHOWN_PROBLEMS:,} more", highlight=False)


def _report_pace(pace: dict[str, Any]) -> None:
    """Say in one line how fast it went, and why not faster."""
    speed = pace["images"] / pace["seconds"] if pace["seconds"] else 0.0
    parts = [f"{pace['device']}, {pace['precision']}, {speed:,.0f} images/s"]
    if pace["rechecked"]:
        parts.append(
            f"{pace['rechecked']:,} near ties computed again in float32, which changed"
            f" {pace['changed']:,}"
        )
    line = f"{'; '.join(parts)}. {bottleneck(pace)}"
    Console().print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
