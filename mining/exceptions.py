"""Every error that mining raises on purpose; each message can be shown to a person."""

# ruff: noqa: N818 (the names say what is wrong; "Error" would add nothing)
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mining.text import storable

SHOWN_PROBLEMS = 5


class MiningError(Exception):
    """Base of all; the message says what happened, what was kept and what to do.

    The message is storable text, whatever names it repeats.
    """

    def __init__(self, message: str) -> None:
        super().__init__(storable(message))


class UnreadableImage(MiningError):
    """An image's bytes cannot be decoded; the message is the reason alone."""


class EmptySource(MiningError):
    """A folder or manifest lists no image."""


class OutsideRoot(MiningError):
    """A path leads outside the folders that may be read."""


class BadCheckpoint(MiningError):
    """A checkpoint or its spec cannot be used; the message names the file."""


class ArtefactError(MiningError):
    """A Parquet artefact cannot be written or read."""


class ScanCountMismatch(ArtefactError):
    """The outcomes of a scan are not as many as its samples."""

    def __init__(self, *, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"The scan has {found:,} outcomes for {expected:,} samples."
            " Nothing was merged; the shards are kept. Run the scan again."
        )


class BadManifest(MiningError):
    """A manifest has problems; nothing of it was used.

    Attributes:
        file: The manifest's name.
        problems: The first problems, each with its line.
        count: How many there are in all.
    """

    def __init__(
        self, file: str, problems: Sequence[str], *, count: int | None = None
    ) -> None:
        self.file = storable(file)
        self.problems = tuple(map(storable, problems[:SHOWN_PROBLEMS]))
        self.count = len(problems) if count is None else count
        noun = "problem" if self.count == 1 else "problems"
        lines = [f"{self.file} has {self.count:,} {noun}; nothing was taken from it."]
        lines += [f"  {problem}" for problem in self.problems]
        if self.count > len(self.problems):
            lines.append(f"  and {self.count - len(self.problems):,} more")
        super().__init__("\n".join(lines))


class ClassMismatch(MiningError):
    """The model's classes are not the data set's.

    Attributes:
        model: Class names of the model, in order.
        dataset: Class names of the data set, in order.
        kind: "count differs", "reordered" or "renamed".
    """

    def __init__(self, *, model: Sequence[str], dataset: Sequence[str]) -> None:
        self.model = tuple(model)
        self.dataset = tuple(dataset)
        if len(self.model) != len(self.dataset):
            self.kind = "count differs"
        elif Counter(self.model) == Counter(self.dataset):
            self.kind = "reordered"
        else:
            self.kind = "renamed"
        super().__init__(
            f"The model's classes do not fit the data set's ({self.kind}).\n"
            f"  model ({len(self.model)}): {', '.join(self.model)}\n"
            f"  data set ({len(self.dataset)}): {', '.join(self.dataset)}\n"
            "Give the classes in the model spec in the order of the model's outputs."
        )
