"""Predictions made elsewhere: read, checked and scored in blocks, in constant memory."""

from __future__ import annotations

from mining.predictions.blocks import (
    Block,
    Fault,
    FaultKind,
    Scores,
    find_faults,
    score_block,
)
from mining.predictions.layout import BadPredictions
from mining.predictions.opening import (
    PredictionFormat,
    detect_format,
    read_class_order,
    read_predictions,
)
from mining.predictions.report import Report

__all__ = [
    "BadPredictions",
    "Block",
    "Fault",
    "FaultKind",
    "PredictionFormat",
    "Report",
    "Scores",
    "detect_format",
    "find_faults",
    "read_class_order",
    "read_predictions",
    "score_block",
]
