"""`evaluation_curves.png`: the plot of a run, beside its results."""

from __future__ import annotations

import importlib.util
import io
import logging

from ..writers.files import replace_file
from ..writers.results import PLOT_FILE
from .plot import plot
from .run import Run
from .series import default_metrics

logger = logging.getLogger(__name__)


def draw_curves(run: Run) -> bytes | None:
    """Write `evaluation_curves.png` beside the results.

    Args:
        run: A run that has ended.

    Returns:
        The picture; None where matplotlib is not installed, there is nothing to draw or only one step, or drawing
        failed, which is logged: a picture is not worth a finished training.
    """
    if len(run.history) < 2 or not default_metrics(run) or importlib.util.find_spec("matplotlib") is None:
        return None
    path = run.folder / PLOT_FILE
    try:
        stream = io.BytesIO()
        plot(run).savefig(stream, format="png")
        replace_file(path, stream.getvalue())
    except Exception:
        logger.warning("%s could not be drawn; all else of the run is there.", path, exc_info=True)
        return None
    return stream.getvalue()
