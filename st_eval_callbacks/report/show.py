"""Where what a person sees goes: the terminal, a notebook, the logger, or nowhere.

The rule: lines and the table are for levels up to WARNING. Nothing is printed on a process whose `args.log_level`, or
whose logger "st_eval_callbacks", is at ERROR or above. Where bars are shown (`disable_tqdm=False`) a line goes between
them; without bars it goes to the logger at INFO. The table is printed in both cases, and displayed in a notebook.
"""

from __future__ import annotations

import html
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..history import EvalRecord
from ..writers.results import FILE_NAME, PLOT_FILE
from .lines import evaluation_line
from .run import Run
from .summary import Session, SummaryRow, summarise
from .table import table_html, table_text

if TYPE_CHECKING:
    # Importing it takes seconds, which the command line would spend for nothing.
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)
_package_logger = logging.getLogger(__name__.partition(".")[0])


def is_quiet(args: TrainingArguments) -> bool:
    """Whether nothing is to be printed on this process."""
    of_process: int = args.get_process_log_level()  # type: ignore[no-untyped-call]
    return max(_package_logger.getEffectiveLevel(), of_process) > logging.WARNING


def show_line(run: Run, record: EvalRecord, args: TrainingArguments) -> None:
    """Tell of an evaluation in one line.

    Args:
        run: The run, this evaluation included.
        record: The evaluation.
        args: The trainer's arguments, for `disable_tqdm` and `log_level`.
    """
    if is_quiet(args):
        return
    line = evaluation_line(run, record)
    if args.disable_tqdm:
        logger.info("%s", line)
    else:
        tqdm.write(_printable(line))


def show_summary(run: Run, args: TrainingArguments, session: Session | None, best_checkpoint: str | None) -> None:
    """Show the table of a run and where its files are.

    Args:
        run: The run.
        args: The trainer's arguments, for `log_level`.
        session: What training took.
        best_checkpoint: The best checkpoint, or None.
    """
    from transformers.utils.import_utils import is_in_notebook

    rows = summarise(run)
    if is_quiet(args) or not run.history:
        return
    notes = _notes(run, rows, session, best_checkpoint)
    if is_in_notebook() and rows and _display(table_html(rows), notes):
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text = table_text(rows, width=width, ascii_only=not _can_show("━│")) if rows else ""
    sys.stdout.write("\n" + _printable("\n".join([text, *notes] if rows else notes)) + "\n")
    sys.stdout.flush()


def _notes(run: Run, rows: Sequence[SummaryRow], session: Session | None, best_checkpoint: str | None) -> list[str]:
    notes = []
    deciding = run.info.deciding_metric
    if deciding is not None:
        who = "*" if any(row.decides for row in rows) else deciding
        notes.append(f"{who} decides the best checkpoint: {best_checkpoint or 'none was saved'}")
    lower = [row.metric for row in rows if not row.greater_is_better]
    if lower:
        notes.append(f"less is better: {', '.join(lower)}")
    ran = {name for record in run.history for name in record.seconds}
    shown = {row.metric for row in rows}
    silent = [one.name for one in run.info.evaluators if one.name in ran and not shown & set(run.shown_metrics(one))]
    if silent:
        notes.append(f"without any value: {', '.join(silent)}")
    if session is not None:
        notes += [session.note, str(session)] if session.note else [str(session)]
    files = {"all values": run.folder / FILE_NAME, "curves": run.folder / PLOT_FILE}
    if best_checkpoint is not None:
        files["model card"] = Path(best_checkpoint) / "README.md"
    # The card beside a checkpoint tells what was known when it was saved.
    later = {"model card": " (as of then; model.save_pretrained(folder) writes the final one)"}
    return notes + [f"{name}: {path}{later.get(name, '')}" for name, path in files.items() if path.is_file()]


def _display(table: str, notes: Sequence[str]) -> bool:
    """Display in a notebook; False where that needs a package that is not there."""
    try:
        from IPython.display import HTML, display
    except ImportError:
        return False
    display(HTML(table + "".join(f"<div>{html.escape(note)}</div>" for note in notes)))
    return True


def _can_show(text: str) -> bool:
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    """The text with what the terminal cannot show replaced: a finished training must not fail over a dot."""
    if _can_show(text):
        return text
    return text.replace(" · ", " | ").encode(_encoding(), errors="backslashreplace").decode(_encoding())


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"
