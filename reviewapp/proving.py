"""The scans of a training run, brought together for the proof; what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Q
from django.utils import timezone

from mining.credit import Fix
from mining.proof import Images, Material, Proof, prove
from mining.recipe import Recipe
from reviewapp.comparing import columns_of, fix_sets, given_labels, hashes_of
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Comparison,
    Finding,
    FixItem,
    ModelVersion,
    Sample,
    Scan,
    Split,
    TrainingRun,
    Verdict,
)
from reviewapp.storage import scratch_folder

TAUGHT = ("hard", "corrected")
# The val split moves no weights, but may decide which epoch is kept.
LEARNED = (Split.TRAIN, Split.VAL)


@dataclass(frozen=True, slots=True)
class Sides:
    """The scans that a report is made from; all are done and have an artefact.

    Attributes:
        run: The training run.
        before: Of the parent.
        after: Of what came of the run.
        control: Of what came of the control; None: there is none.
        without: Why there is no control; "" when there is one, or none was asked for.
    """

    run: TrainingRun
    before: Scan
    after: Scan
    control: Scan | None
    without: str

    @property
    def scans(self) -> list[Scan]:
        """Return all of them."""
        control = [self.control] if self.control else []
        return [self.before, self.after, *control]


def waits_for(run: TrainingRun) -> str:
    """Say what a report has to wait for; "" when it can be made."""
    found = _sides_or_why(run)
    return found if isinstance(found, str) else ""


def sides_of(run: TrainingRun) -> Sides:
    """Return the scans of a run's report.

    Raises:
        Refused: One of them is not done; the message says which.
    """
    found = _sides_or_why(run)
    if isinstance(found, str):
        raise Refused(found)
    return found


def prove_run(sides: Sides) -> Proof:
    """Hold the retrained version of a run against its parent, and against the control.

    Raises:
        ArtefactError: An artefact is damaged or gone.
        OSError: The storage could not be read.
    """
    dataset, recipe = sides.run.dataset, sides.run.load_recipe()
    with scratch_folder() as folder:
        tables = [columns_of(scan, folder) for scan in sides.scans]
    reviewed = set(
        Finding.objects.for_dataset(dataset)
        .reviewed()
        .order_by()
        .values_list("digest", flat=True)
        .distinct()
    )
    trained = _trained(sides)
    known = hashes_of(reviewed | trained, dataset, sides.scans, tables)
    before, after, *control = tables
    return prove(
        Material(
            before=before,
            after=after,
            control=control[0] if control else None,
            labels={
                "corrected": given_labels(dataset, Comparison.Labels.CORRECTED),
                "original": given_labels(dataset, Comparison.Labels.ORIGINAL),
            },
            reviewed=_images(reviewed, known),
            trained=_images(trained, known),
            fixes=fixes_of(sides.run, recipe),
        )
    )


def fixes_of(run: TrainingRun, recipe: Recipe | None) -> list[Fix]:
    """Return what the fix set of a run taught; a near miss that is right is no fix."""
    if recipe is None or run.recipe is None:
        return []
    taught = {sample.key for sample in recipe.samples if sample.role in TAUGHT}
    items = FixItem.objects.filter(fix_set=run.recipe.fix_set_id).order_by("id")
    return [
        Fix(item.label, mistaken_for, tuple(item.causes))
        for item in items.iterator(chunk_size=2000)
        if item.sample_key in taught
        and (mistaken_for := _mistaken_for(item)) != item.label
    ]


def _mistaken_for(item: FixItem) -> str:
    # A model that learned the wrong label gives it to images of the right one.
    return item.true_label if item.verdict == Verdict.RELABEL else item.predicted


def _sides_or_why(run: TrainingRun) -> Sides | str:
    after = run.verifying_scan
    if not run.is_done:
        return f"The training run is {run.state}. The report follows when it is done."
    if after is None:
        return "The retrained version was not scanned yet. The report follows its scan."
    if not _is_read(after):
        return (
            f"Scan {after.pk} of the retrained version is {after.state}. The report "
            "follows when it is done."
        )
    before = _scan_before(run)
    if before is None:
        split = f"the {run.scan_split} split" if run.scan_split else "every sample"
        return (
            f"No scan of {run.parent} over {split} is done. The report follows when "
            "there is one to compare with."
        )
    found = _control_of(run)
    return found if isinstance(found, str) else Sides(run, before, after, *found)


def _control_of(run: TrainingRun) -> tuple[Scan | None, str] | str:
    """Return the control's scan, or why there is none; or what it still waits for."""
    control = run.controls.select_related("verifying_scan").order_by("-id").first()
    if control is None:
        return None, ""
    scan = control.verifying_scan
    if scan and _is_read(scan):
        return scan, ""
    is_due = control.is_done and not scan and _is_tried(control)
    if control.is_active or is_due or (scan and scan.is_active):
        return f"Its control, {control}, is not done. The report follows it."
    ended = f"its scan is {scan.state}" if scan else f"it is {control.state}"
    return None, f"The control, {control}, cannot be compared: {ended}."


def _is_tried(run: TrainingRun) -> bool:
    """Whether the scan of its version is still being started."""
    return run.verify_until is not None and run.verify_until > timezone.now()


def _is_read(scan: Scan) -> bool:
    return scan.is_done and bool(scan.artefact)


def _scan_before(run: TrainingRun) -> Scan | None:
    scans = Scan.objects.for_dataset(run.dataset).finished().exclude(artefact="")
    # Not out-of-fold: other weights than the parent's said that.
    mine = scans.filter(model_version=run.parent, split=run.scan_split, folds=0)
    return mine.with_names().newest_first().first()


def _trained(sides: Sides) -> set[str]:
    """Return the digests of what any of the models was trained on."""
    dataset = sides.run.dataset
    learned = Sample.objects.filter(dataset=dataset, split__in=LEARNED).order_by()
    items = FixItem.objects.filter(fix_set__in=fix_sets(*sides.scans)).order_by()
    digests = set(learned.values_list("digest", flat=True))
    digests |= set(items.values_list("digest", flat=True))
    for recipe in _recipes(sides):
        digests |= {line.digest for line in recipe.samples if line.role != "drop"}
    return digests


def _recipes(sides: Sides) -> Iterator[Recipe]:
    """Yield those of the run, of its control, and of the versions before."""
    after = sides.after.model_version
    versions = ModelVersion.objects.filter(
        registered_model=after.registered_model, number__lte=after.number
    )
    wanted = Q(pk=sides.run.pk) | Q(version__in=versions)
    if sides.control:
        wanted |= Q(control_of=sides.run, verifying_scan=sides.control)
    for run in TrainingRun.objects.filter(wanted).select_related("recipe"):
        if recipe := run.load_recipe():
            yield recipe


def _images(digests: set[str], known: dict[str, int]) -> Images:
    return Images(digests, {known[name] for name in digests & known.keys()})
