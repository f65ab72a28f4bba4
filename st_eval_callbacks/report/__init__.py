"""What a person sees of a run."""

from __future__ import annotations

from .curves import draw_curves
from .lines import evaluation_line
from .plot import plot
from .run import Run
from .show import show_line, show_summary
from .summary import Session, SummaryRow, summarise
from .table import table_html, table_text

__all__ = [
    "Run",
    "Session",
    "SummaryRow",
    "draw_curves",
    "evaluation_line",
    "plot",
    "show_line",
    "show_summary",
    "summarise",
    "table_html",
    "table_text",
]
