"""manage.py gate: hold one scan against another, for CI pipelines."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from mining.exceptions import MiningError
from reviewapp.access import id_from
from reviewapp.actions.telling import tell_of_gate
from reviewapp.comparing import compare_scans, figures_of
from reviewapp.exceptions import HardmineError, Refused, plain_message
from reviewapp.gating import (
    Condition,
    conditions_of,
    junit_of,
    junit_of_refusal,
    report_of,
    result_of,
    summary_of,
    warnings_of,
)
from reviewapp.management.base import find_dataset
from reviewapp.models import Comparison, Dataset, Scan
from reviewapp.models.scans import ScanQuerySet
from reviewapp.tasks import send_due_deliveries

FAILED: Final = 1
NOT_COMPARABLE: Final = 2
LOOKED_AT: Final = 50  # the last scans of a version


class Command(BaseCommand):
    help = (
        "Compare two finished scans of the same samples and ask whether the candidate "
        "may replace the baseline. Ends with status 0 when every condition holds, 1 when "
        "one does not, 2 when the scans cannot be compared."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = "id of a scan, or model:version for the last finished scan of it"
        parser.add_argument("--candidate", required=True, metavar="SCAN", help=which)
        parser.add_argument("--baseline", required=True, metavar="SCAN", help=which)
        parser.add_argument(
            "--dataset",
            help="name or slug; needed when models of two have the same name",
        )
        asked = parser.add_argument_group("conditions, one at least")
        asked.add_argument(
            "--max-regressions",
            type=_whole_number,
            metavar="N",
            help="samples that the baseline has right and the candidate wrong, at most",
        )
        asked.add_argument(
            "--min-gain",
            type=_number,
            metavar="X",
            help="percentage points of accuracy gained, at least: 0.5; or --min-gain=-0.2",
        )
        parser.add_argument(
            "--labels",
            choices=Comparison.Labels.values,
            default=Comparison.Labels.CORRECTED.value,
            help="score both with these; default: corrected",
        )
        parser.add_argument(
            "--common",
            action="store_true",
            help="compare what the two have in common, instead of refusing",
        )
        parser.add_argument(
            "--without-seen",
            action="store_true",
            help="ask it of the figures without samples that were reviewed or trained on",
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write a report")
        parser.add_argument(
            "--junit", type=Path, metavar="FILE", help="write JUnit XML"
        )
        parser.add_argument(
            "--silent",
            action="store_true",
            help="tell no webhook and nobody by e-mail that the gate is closed",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._judge(**options)
        # Whatever keeps it from an answer must not look like a failed candidate.
        except (HardmineError, MiningError, OSError, DatabaseError) as error:
            message = f"The two cannot be compared: {plain_message(error)}"
            _write_reports(
                options,
                {"result": "error", "message": message},
                junit_of_refusal(message),
            )
            raise CommandError(message, returncode=NOT_COMPARABLE) from error

    def _judge(
        self,
        *,
        labels: str,
        common: bool,
        without_seen: bool,
        max_regressions: int | None,
        min_gain: Decimal | None,
        silent: bool,
        **options: Any,
    ) -> None:
        if max_regressions is None and min_gain is None:
            raise Refused(
                "nothing is asked. Give --max-regressions, --min-gain or both."
            )
        baseline, candidate = _scans(options)
        compared = compare_scans(
            baseline=baseline, candidate=candidate, labels=labels, common=common
        )
        figures = figures_of(compared)
        conditions = conditions_of(
            _asked_of(figures, without_seen=without_seen),
            max_regressions=max_regressions,
            min_gain=min_gain,
        )
        lines = [
            f"candidate {_in_words(candidate)}",
            f"baseline  {_in_words(baseline)}",
            *summary_of(figures),
            f"labels    {labels}, on both sides",
            *warnings_of(figures),
            *(
                f"{'PASS' if c.passed else 'FAIL'}  {c.name}: {c.said}"
                for c in conditions
            ),
        ]
        self.stdout.write("\n".join(lines))
        report = report_of(
            conditions,
            figures,
            candidate=candidate.pk,
            baseline=baseline.pk,
            labels=labels,
            common=common,
            without_seen=without_seen,
        )
        _write_reports(options, report, junit_of(conditions, "\n".join(lines)))
        if result_of(conditions) == "fail":
            if not silent:
                self._tell(baseline, candidate, conditions, lines)
            raise CommandError("The gate is closed.", returncode=FAILED)
        self.stdout.write("The gate is open.")

    def _tell(
        self,
        baseline: Scan,
        candidate: Scan,
        conditions: Sequence[Condition],
        lines: Sequence[str],
    ) -> None:
        """Tell whoever wants to know; that it cannot be told changes no verdict."""
        try:
            tell_of_gate(
                baseline=baseline,
                candidate=candidate,
                conditions=conditions,
                summary=lines,
            )
            send_due_deliveries()
        except DatabaseError as error:
            self.stderr.write(f"Nobody is told of it: {plain_message(error)}")


def _asked_of(figures: dict[str, Any], *, without_seen: bool) -> dict[str, Any]:
    """Return the figures that the conditions are about."""
    seen = figures["seen"]
    if not without_seen or not seen["samples"]:
        return figures
    if not seen["without"]:
        raise Refused("every sample was reviewed or trained on; none is left.")
    without: dict[str, Any] = seen["without"]
    return without


def _scans(options: dict[str, Any]) -> tuple[Scan, Scan]:
    """Return the baseline and the candidate: of two versions, the last of one split."""
    scans = Scan.objects.finished().lean()
    if options["dataset"]:
        scans = scans.for_dataset(_dataset(options["dataset"]))
    ours, theirs = (_named(scans, options[side]) for side in ("baseline", "candidate"))
    for candidate in theirs:
        for baseline in ours:
            if (baseline.split, baseline.dataset_id) == (
                candidate.split,
                candidate.dataset_id,
            ) and baseline != candidate:
                return baseline, candidate
    return ours[0], theirs[0]


def _dataset(name: str) -> Dataset:
    try:
        return find_dataset(name)
    except CommandError as error:
        raise Refused(str(error)) from error


def _named(scans: ScanQuerySet, name: str) -> list[Scan]:
    """Return the finished scan of this id, or the last ones of a model:version."""
    model, _, number = name.rpartition(":")
    pk = id_from(name)
    if pk is None and (not model or id_from(number) is None):
        raise Refused(f"{name!r} is neither the id of a scan nor model:version.")
    found = scans.filter(pk=pk) if pk else _of_version(scans, model, int(number))
    rows = list(found.newest_first()[:LOOKED_AT])
    if not rows:
        raise Refused(
            f"There is no finished scan {name}. Run one, or wait for its end."
        )
    if len({row.dataset_id for row in rows}) > 1:
        raise Refused(f"Several data sets have a model {model!r}. Name one: --dataset.")
    return rows


def _of_version(scans: ScanQuerySet, model: str, number: int) -> ScanQuerySet:
    return scans.filter(
        model_version__registered_model__name=model, model_version__number=number
    )


def _in_words(scan: Scan) -> str:
    return f"scan {scan.pk}: {scan.model_version}, {scan.split or 'every split'}"


def _write_reports(options: dict[str, Any], report: Any, junit: bytes) -> None:
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    for path, data in ((options["json"], text.encode()), (options["junit"], junit)):
        if path:
            _write(path, data)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise CommandError(
            f"{path} could not be written: {error.strerror}. What was there is kept.",
            returncode=NOT_COMPARABLE,
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _whole_number(text: str) -> int:
    number = id_from(text)
    if number is None:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return number


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or abs(number) > 100:
        raise ArgumentTypeError(f"{text!r} is not a number from -100 to 100")
    return number
