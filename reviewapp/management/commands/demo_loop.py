"""manage.py demo_loop: from wrong labels to a better model and its proof, in one command."""

from __future__ import annotations

import logging
import os
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.urls import reverse

from mining.sources.files import is_local
from reviewapp.demo.accounts import ADMIN, ensure_accounts
from reviewapp.demo.loop_reviewer import KnowingReviewer
from reviewapp.forms.fixsets import FixSetForm
from reviewapp.management.base import DomainCommand, find_user
from reviewapp.management.processes import require_free_port
from reviewapp.models import Dataset, FixSet, Report

if TYPE_CHECKING:
    from reviewapp.demo.loop import Loop, Taught

HOST, PORT = "127.0.0.1", 8000
NAME: Final = "Closed loop"
# A third of the reference case: minutes on two cores, and the same story.
TRAIN, POOL, TEST, REVIEWS, EPOCHS = 800, 1500, 1000, 160, 20


class Command(DomainCommand):
    help = (
        "Train on labels that are partly wrong, review, restore, mine new images, "
        "retrain and prove it, then serve. The reviewer is played by the true labels."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--exit", action="store_true", help="stop at the address of the report"
        )

    def run(self, **options: Any) -> None:
        if not options["exit"]:
            require_free_port(HOST, PORT)
        call_command("migrate", verbosity=0, interactive=False)
        accounts = ensure_accounts(settings.VAR / "demo-accounts.txt")
        reports = Report.objects.filter(
            state=Report.State.DONE,
            run__dataset__name__startswith=NAME,
            run__recipe__isnull=False,
        )
        report = reports.select_related("run__dataset").order_by("-pk").first()
        # What a worker writes to its log would stand between the lines of the story.
        logger = logging.getLogger("reviewapp")
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            report = report or self._go_round()
        finally:
            logger.setLevel(level)
        self._tell(report, accounts)
        if not options["exit"]:
            self.stdout.flush()
            # A fresh process: this one holds torch and all it needed for training.
            manage = str(settings.BASE_DIR / "manage.py")
            os.execv(sys.executable, [sys.executable, manage, "up"])  # noqa: S606

    def _go_round(self) -> Report:
        # Both load torch, which showing a report again has no need of.
        from reviewapp.demo.loop import Loop  # noqa: PLC0415
        from reviewapp.demo.loop_world import Sizes, draw_world  # noqa: PLC0415

        name, folder = _free_place()
        loop = Loop.begin(
            world=draw_world(
                seed=0, noise="pair", sizes=Sizes(train=TRAIN, pool=POOL, test=TEST)
            ),
            name=name,
            folder=folder,
            by=find_user(ADMIN),
            seed=0,
            epochs=EPOCHS,
            tell=lambda text: self.stdout.write(f"{text} …"),
        )
        return self._steps(loop)

    def _steps(self, loop: Loop) -> Report:
        from reviewapp.demo.loop import models_folder  # noqa: PLC0415

        reviewer = KnowingReviewer(loop.dataset, loop.by, loop.world.true)
        first = loop.train_first(models_folder())
        self._say(first)
        doubts = loop.doubt_labels(first.version)
        model = str(doubts.model_version.registered_model_id)
        done = reviewer.review(
            {"registered_model": model, "order": "doubted"}, limit=REVIEWS
        )
        self.stdout.write(
            f"Reviewed {done:,} of {TRAIN:,} training images, and trained again …"
        )
        restored = loop.train(first.version, None)
        self._say(restored)
        loop.add_pool()
        loop.scan_pool(restored.version)
        mine = {"registered_model": str(restored.version.registered_model_id)}
        for lane in ("", "near_miss"):
            reviewer.review({**mine, "split": "val", "lane": lane})
        recipe = loop.make_recipe(_freeze(loop).recipes.lean().latest("pk"))
        self.stdout.write("Training with what was mined, and with as much at random …")
        mined = loop.train(restored.version, recipe, with_control=True)
        self._say(mined)
        return loop.prove(mined.run)

    def _say(self, taught: Taught) -> None:
        shown = f"{taught.accuracy:.1%} right on the test split"
        self.stdout.write(f"  {taught.version}: {shown}")

    def _tell(self, report: Report, accounts: dict[str, str | None]) -> None:
        self.stdout.write(f"\n{report.figures['claim']['text']}")
        slug, run = report.run.dataset.slug, report.run_id
        address = reverse("report-detail", args=[slug, run])
        self.stdout.write(f"\nThe report: http://{HOST}:{PORT}{address}\nLog in as")
        for name, password in accounts.items():
            self.stdout.write(f"  {name} / {password or '(the password you gave it)'}")
        self.stdout.write("")


def _freeze(loop: Loop) -> FixSet:
    # Every one was looked at, and the pool's labels are known to be right.
    data = {
        "name": "mined",
        "split": ["val"],
        "include": ["label_suspect", "outlier"],
    }
    form = FixSetForm(data, dataset=loop.dataset)
    if not form.is_valid():
        raise CommandError(f"The fix set cannot be made: {form.errors.as_text()}")
    return form.freeze(by=loop.by)


def _free_place() -> tuple[str, Path]:
    """Return a name and a folder that nothing has; a demo that was stopped keeps its own."""
    roots = settings.DATA_ROOTS
    if not roots or not is_local(roots[0]):
        raise CommandError(
            "The demo needs a local folder as the first of HARDMINE_DATA_ROOTS."
        )
    for number in count(1):
        name = NAME if number == 1 else f"{NAME} {number}"
        folder = Path(roots[0]) / name.lower().replace(" ", "-")
        if not folder.exists() and not Dataset.objects.filter(name=name).exists():
            return name, folder
    raise AssertionError("numbers do not end")
