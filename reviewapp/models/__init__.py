"""One module per stage; import models from here."""

from __future__ import annotations

from reviewapp.models.analyses import Analysis
from reviewapp.models.claims import Claim, Skip
from reviewapp.models.comparisons import Comparison
from reviewapp.models.confusions import Confusion, ConfusionCount, ConfusionEvent
from reviewapp.models.datasets import Dataset, Label, Registration, Sample, Split
from reviewapp.models.events import Event
from reviewapp.models.exports import Export
from reviewapp.models.findings import Finding, Sighting
from reviewapp.models.fixsets import FixItem, FixSet, HeldItem
from reviewapp.models.folds import FoldRun
from reviewapp.models.imports import Import
from reviewapp.models.matrices import ScanMatrix
from reviewapp.models.notices import Delivery, Notice, Webhook
from reviewapp.models.opinions import KnownAnswer, KnownAttempt, Opinion
from reviewapp.models.people import Membership, NoticeKind, Role, User
from reviewapp.models.ranking import Exemplar, Lookalike, Preparation, Ranker
from reviewapp.models.recipes import Recipe
from reviewapp.models.registry import ModelVersion, RegisteredModel
from reviewapp.models.reports import Report
from reviewapp.models.reviews import Cause, DismissReason, Review, Undo, Verdict
from reviewapp.models.scans import Scan, Shard, UnreadableSample
from reviewapp.models.schedules import Schedule
from reviewapp.models.standings import Standing, StandingChange
from reviewapp.models.training import TrainingRun

__all__ = [
    "Analysis",
    "Cause",
    "Claim",
    "Comparison",
    "Confusion",
    "ConfusionCount",
    "ConfusionEvent",
    "Dataset",
    "Delivery",
    "DismissReason",
    "Event",
    "Exemplar",
    "Export",
    "Finding",
    "FixItem",
    "FixSet",
    "FoldRun",
    "HeldItem",
    "Import",
    "KnownAnswer",
    "KnownAttempt",
    "Label",
    "Lookalike",
    "Membership",
    "ModelVersion",
    "Notice",
    "NoticeKind",
    "Opinion",
    "Preparation",
    "Ranker",
    "Recipe",
    "RegisteredModel",
    "Registration",
    "Report",
    "Review",
    "Role",
    "Sample",
    "Scan",
    "ScanMatrix",
    "Schedule",
    "Shard",
    "Sighting",
    "Skip",
    "Split",
    "Standing",
    "StandingChange",
    "TrainingRun",
    "Undo",
    "UnreadableSample",
    "User",
    "Verdict",
    "Webhook",
]
