"""What a person sees of a run."""

from __future__ import annotations

from .run import Run
from .summary import SummaryRow, summarise
from .table import show_summary, table_text

__all__ = ["Run", "SummaryRow", "show_summary", "summarise", "table_text"]
