"""The keys of the review pages: data, changeable per person, never in conflict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewapp.exceptions import Refused

if TYPE_CHECKING:
    from reviewapp.models import User

# In `User.keys`: this person wants no single keys at all (WCAG 2.1.4).
OFF = "off"
MARKS = "+-=.,;/?'[]\\*"
ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789" + MARKS)


@dataclass(frozen=True, slots=True)
class Action:
    """Something a key does; an element with `data-action` of this name does it too."""

    name: str
    key: str
    text: str
    group: str


ACTIONS = (
    Action(
        "confirm", "c", "confirm: the label is right, the model is wrong", "Verdict"
    ),
    Action("relabel", "r", "relabel: type the class, Enter sends", "Verdict"),
    Action("guess_1", "1", "relabel to the first of the top five", "Verdict"),
    Action("guess_2", "2", "relabel to the second", "Verdict"),
    Action("guess_3", "3", "relabel to the third", "Verdict"),
    Action("guess_4", "4", "relabel to the fourth", "Verdict"),
    Action("guess_5", "5", "relabel to the fifth", "Verdict"),
    Action("dismiss", "d", "dismiss, for the reason shown", "Verdict"),
    Action("dismiss_as", "g", "dismiss for another reason", "Verdict"),
    Action("flag", "f", "flag: somebody else should look", "Verdict"),
    Action("skip", "s", "skip: it comes back at the end", "Verdict"),
    Action("undo", "u", "undo your last verdict", "Verdict"),
    Action("alike", "y", "the same verdict for nearly identical images", "Verdict"),
    Action("note", "n", "note", "Verdict"),
    Action("cause_similar_appearance", "m", "similar appearance", "Cause"),
    Action("cause_pose", "p", "pose", "Cause"),
    Action("cause_occlusion", "o", "occlusion", "Cause"),
    Action("cause_background", "b", "background", "Cause"),
    Action("cause_blur", "h", "blur", "Cause"),
    Action("cause_small_object", "t", "small object", "Cause"),
    Action("cause_lighting", "l", "lighting", "Cause"),
    Action("cause_label_wrong", "w", "label wrong", "Cause"),
    Action("cause_ambiguous", "q", "ambiguous", "Cause"),
    Action("cause_out_of_scope", "x", "out of scope", "Cause"),
    Action("zoom_in", "+", "zoom in", "View"),
    Action("zoom_out", "-", "zoom out", "View"),
    Action("zoom_fit", "0", "the whole image", "View"),
    Action("exemplars", "e", "enlarge the exemplars", "View"),
    Action("link", "k", "copy the link to this finding", "View"),
    Action("help", "?", "this list", "View"),
    Action("select_all", "a", "select all, or none", "Grid"),
    Action("enlarge", "z", "enlarge the thumbnail", "Grid"),
)
BY_NAME = {action.name: action for action in ACTIONS}
GROUPS = tuple(dict.fromkeys(action.group for action in ACTIONS))


def keys_for(user: User) -> dict[str, str]:
    """Return action -> key for a person; "" where there is none."""
    if user.keys.get(OFF):
        return dict.fromkeys(BY_NAME, "")
    return _chosen(user)


def _chosen(user: User) -> dict[str, str]:
    return {action.name: user.keys.get(action.name, action.key) for action in ACTIONS}


def key_groups(user: User) -> list[tuple[str, list[tuple[Action, str]]]]:
    """Return (group, its actions with a person's keys), in the order of `ACTIONS`.

    The keys are also there where they are switched off.
    """
    keys = _chosen(user)
    return [
        (group, [(a, keys[a.name]) for a in ACTIONS if a.group == group])
        for group in GROUPS
    ]


def changed_keys(wanted: Mapping[str, str], *, on: bool) -> dict[str, str]:
    """Return what to store in `User.keys` for these keys of all actions.

    Args:
        wanted: Action -> key; "" for no key. What is missing keeps the usual key.
        on: Whether single keys do anything at all.

    Raises:
        Refused: A key is none that can be used, or two actions have the same one.
    """
    keys = {a.name: wanted.get(a.name, a.key).strip().lower() for a in ACTIONS}
    problems = [
        f"“{BY_NAME[name].text}” cannot have the key {key}; take a letter, a digit or "
        f"one of {' '.join(MARKS)}"
        for name, key in keys.items()
        if key and key not in ALLOWED
    ]
    owners: dict[str, list[str]] = {}
    for name, key in keys.items():
        owners.setdefault(key, []).append(f"“{BY_NAME[name].text}”")
    problems += [
        f"{' and '.join(texts)} would have the same key {key}"
        for key, texts in owners.items()
        if key and len(texts) > 1
    ]
    if problems:
        raise Refused(f"{'. '.join(problems)}. Your keys are as they were.")
    stored = {name: key for name, key in keys.items() if key != BY_NAME[name].key}
    return stored if on else {**stored, OFF: "1"}
