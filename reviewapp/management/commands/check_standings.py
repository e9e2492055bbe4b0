"""Count all findings and compare with what the pages show."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from reviewapp.actions.standings import miscounts, recount_standings
from reviewapp.exceptions import Refused
from reviewapp.management.base import DomainCommand

SHOWN = 10


class Command(DomainCommand):
    """Compare the counts of every confusion with its findings."""

    help = "Count all findings and say where the confusions show something else."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --repair."""
        parser.add_argument(
            "--repair",
            action="store_true",
            help="set the counts to what the findings say; verdicts wait meanwhile",
        )

    def run(self, *args: Any, **options: Any) -> None:
        """Print what differs; refuse when something does and is not repaired."""
        if options["repair"]:
            wrong = recount_standings()
            self.stdout.write(f"Counted again: {wrong:,} of the confusions were wrong.")
            return
        found = miscounts()
        for m in found[:SHOWN]:
            self.stdout.write(
                f"{m.model}, {m.true} → {m.predicted}: shown {m.said}, counted "
                f"{m.counted} (present, waiting, back, reviewed)"
            )
        if found:
            raise Refused(
                f"{len(found):,} confusions are miscounted. Nothing was changed. Set "
                "them right with: manage.py check_standings --repair"
            )
        self.stdout.write("All confusions say what their findings say.")
