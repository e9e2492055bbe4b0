"""How a file of predictions says which number belongs to which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mining.exceptions import MiningError
from mining.predictions.blocks import ClassOrder
from mining.text import shown

_SHOWN_NAMES: Final = 20


class BadPredictions(MiningError):  # noqa: N818 (as the other refusals)
    """A file of predictions cannot be used at all; nothing was taken from it."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem} Nothing was imported from it.")


@dataclass(frozen=True, slots=True)
class Names:
    """The data set's classes, and the order in which a file has them.

    Attributes:
        file: What messages call the file.
        classes: Names in the data set's order.
        given: The order that came with the file; empty: none did.
    """

    file: str
    classes: tuple[str, ...]
    given: tuple[str, ...] = ()

    def index(self) -> dict[str, int]:
        """Return name -> position in the data set's order."""
        return {name: n for n, name in enumerate(self.classes)}

    def columns(
        self, names: Sequence[str] | None
    ) -> tuple[npt.NDArray[np.int64], ClassOrder]:
        """Return which number of a row is that of each class, and where that is from.

        Args:
            names: The classes as the file lists them; None: it does not.

        Raises:
            BadPredictions: The names are not the data set's classes.
        """
        order: ClassOrder = "file"
        if names is None:
            names = self.given or self.classes
            order = "given" if self.given else "data set"
        missing = sorted(set(self.classes) - set(names))
        unknown = sorted(set(names) - set(self.classes))
        if missing or unknown or len(names) != len(self.classes):
            raise BadPredictions(self.file, self._mismatch(names, missing, unknown))
        place = {name: n for n, name in enumerate(names)}
        return np.array([place[name] for name in self.classes], np.int64), order

    def _mismatch(
        self, names: Sequence[str], missing: list[str], unknown: list[str]
    ) -> str:
        parts = []
        if missing:
            parts.append(f"it lacks {_listed(missing)}")
        if unknown:
            verb = "is" if len(unknown) == 1 else "are"
            parts.append(f"{_listed(unknown)} {verb} no class of the data set")
        if not parts:
            twice = sorted({name for name in names if list(names).count(name) > 1})
            parts.append(f"it names {', '.join(map(shown, twice[:5]))} twice")
        return (
            f"its classes are not the data set's: {'; '.join(parts)}. The data set has "
            f"{len(self.classes):,}: {', '.join(self.classes[:_SHOWN_NAMES])}"
            f"{' …' if len(self.classes) > _SHOWN_NAMES else ''}."
        )


def _listed(names: list[str]) -> str:
    text = ", ".join(map(shown, names[:_SHOWN_NAMES]))
    more = len(names) - _SHOWN_NAMES
    return f"{text} and {more:,} more" if more > 0 else text
