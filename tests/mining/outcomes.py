"""Outcomes with a look, for tests of what reads an artefact."""

from __future__ import annotations

from mining.types import Look, Outcome


def outcome(number: int, **changes) -> Outcome:
    look = Look(number, 0.5, 0.1, 3.0, 8, 8, "PNG", 99)
    values = {"predicted": 1, "look": look} | changes
    return Outcome(
        id=number,
        key=f"{number}.png",
        digest=f"{number:064x}",
        true=0,
        confidence=0.9,
        p_true=0.1,
        margin=0.8,
        loss=2.3,
        top_classes=(1,),
        top_probs=(0.9,),
        **values,
    )
