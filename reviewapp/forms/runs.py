"""Forms that start a scan or a training: a few choices, and many settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms


def named(
    names: tuple[str, ...], words: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Return choices, in words where there are some."""
    return [(name, (words or {}).get(name, name)) for name in names]


class RunForm(forms.Form):
    """What everybody chooses, and settings that are right for most as they are.

    A setting that is left empty takes its default.
    """

    MORE: ClassVar[tuple[str, ...]]  # names of those settings

    def chosen_first(self) -> list[forms.BoundField]:
        """Return the fields that everybody chooses."""
        return [self[name] for name in self.fields if name not in self.MORE]

    def more(self) -> list[forms.BoundField]:
        """Return the settings that are right for most as they are."""
        return [self[name] for name in self.MORE]

    def more_is_open(self) -> bool:
        """Whether one of the settings was refused."""
        return any(name in self.errors for name in self.MORE)

    def given(self, *names: str) -> dict[str, Any]:
        """Return the settings of a valid form and what `names` say, without empty ones."""
        found = {name: self.cleaned_data[name] for name in (*names, *self.MORE)}
        return {name: value for name, value in found.items() if value not in ("", None)}
