"""One evaluation of a run: measured, logged, and noted where the run keeps it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from transformers import TrainingArguments

from . import distributed
from .evaluation import EvalSettings, evaluate
from .history import EvalRecord
from .run_record import RunRecord
from .tasks import Task
from .trainer_link import TrainerLink
from .writers import model_card


def measure(
    link: TrainerLink, tasks: Sequence[Task], args: TrainingArguments, run: RunRecord | None, on_error: str
) -> EvalRecord:
    """Run evaluators on the model as it is.

    Args:
        link: The trainer.
        tasks: The evaluators.
        args: Its arguments.
        run: What the run leaves behind; None for an evaluation by hand, which writes nothing.
        on_error: "raise", or "warn" to go on without the evaluators that fail.

    Returns:
        What was measured.

    Raises:
        EvaluationError: When an evaluator failed and `on_error` is "raise".
    """
    state = link.trainer.state
    step, epoch = state.global_step, state.epoch or 0.0
    writes = run is not None and distributed.is_main_process()
    outcome = evaluate(
        tasks,
        link.model,
        output_path=os.path.join(link.output_dir, "eval") if writes else None,
        epoch=epoch,
        step=step,
        settings=EvalSettings.of(args),
        on_error=on_error,
    )
    if run is not None:
        run.plan.learn(outcome.metrics, args)
        run.add(step, outcome)
    return EvalRecord(step, epoch, outcome.merged, outcome.seconds)


def note(link: TrainerLink, run: RunRecord, result: EvalRecord) -> None:
    """Log what was measured, from where everything else is derived, and let the card know.

    Args:
        link: The trainer.
        run: What the run leaves behind.
        result: What was measured.
    """
    link.log({key: value if math.isfinite(value) else None for key, value in result.log_entry().items()})
    model_card.add_evaluation_seconds(link.model, result.total_seconds)
    run.write_training_table()
