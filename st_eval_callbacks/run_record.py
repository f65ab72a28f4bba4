"""What a run leaves behind: its history, its tables, its model card."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from . import distributed, report
from .checkpoints import delete_unfinished
from .evaluation import EvalSettings, Outcome, evaluate
from .evaluators.together import inner_evaluators
from .history import RUN_FILE, EvalRecord, History, LogReader
from .plan import Plan
from .selection import describe
from .tasks import Task
from .trainer_link import TrainerLink
from .writers import model_card, per_query
from .writers.files import remove_leftovers, set_aside
from .writers.record_texts import RecordTexts
from .writers.results import FILE_NAME, PLOT_FILE, keep_foreign_results, write_results
from .writers.run_file import RunInfo, write_run
from .writers.tables import drop_rows_after

logger = logging.getLogger(__name__)


class RunRecord:
    """Writes and shows what the trainer's log holds; of its own are what the card shows of a step, and this session.

    Args:
        link: The trainer.
        tasks: The callback's evaluators.
        plan: How this run is evaluated.
    """

    def __init__(self, link: TrainerLink, tasks: Sequence[Task], plan: Plan) -> None:
        self.link = link
        self.tasks = tasks
        self.plan = plan
        self._card_results: dict[int, dict[BaseEvaluator, Mapping[str, float]]] = {}
        self._log = LogReader()
        # Of each file, what it says of the evaluations so far.
        self._lines, self._rows = RecordTexts(), RecordTexts()
        self._started = time.perf_counter()
        self._seconds: Counter[str] = Counter()

    @property
    def history(self) -> History:
        """All evaluations so far."""
        return self._log.read(self.link.trainer.state.log_history)

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.link.output_dir)

    @property
    def info(self) -> RunInfo:
        """What is evaluated how, as far as known: this callback's evaluators, then those of others."""
        selection, owners = self.plan.selection, self.plan.owners
        evaluators = []
        for task in [*self.tasks, *self.plan.others]:
            metrics = [name for name, owner in owners.items() if owner is task]
            if task in self.plan.others:
                metrics = task.metric_names(self.link.model) or list(task.returned)
            one = describe(task, metrics)
            decides = one.primary_metric == selection.metric
            evaluators.append(replace(one, greater_is_better=selection.greater_is_better) if decides else one)
        return RunInfo(selection.metric, selection.greater_is_better, selection.min_delta, tuple(evaluators))

    @property
    def run(self) -> report.Run:
        """The run as a person sees it."""
        return report.Run(self.folder, self.history, self.info)

    def order_files(self, step: int) -> None:
        """Before the first step: keep an earlier run's files aside; take out rows that a resumed run writes again.

        Cards of this run show no curves before its end, also where the model has been trained before.

        Args:
            step: Where the run starts; above 0 on a resume.
        """
        model_card.set_curves(self.link.model, None)
        with distributed.guarded():
            if distributed.is_main_process():
                self._order_files(step)

    def _order_files(self, step: int) -> None:
        kept = keep_foreign_results(self.folder, self.history)
        if kept is not None:
            logger.info("the results of an earlier run are kept as %s", kept)
        if step > 0 and self.link.trainer.args.save_total_limit:
            delete_unfinished(self.folder)
        for name in (FILE_NAME, RUN_FILE, PLOT_FILE):
            remove_leftovers(self.folder / name)
        record = self.history.at(step)
        again: list[str] = []
        for task in self.tasks:
            # What ran at this step after its checkpoint was written is not in the log, and runs again.
            is_logged = record is not None and task.name in record.seconds
            again += [] if is_logged else task.items_folders()
            for table in [self.folder / "eval" / name for name in task.csv_files()]:
                remove_leftovers(table)
                if step == 0:
                    set_aside(table)
                else:
                    drop_rows_after(table, step if is_logged else step - 1)
        if step > 0:
            per_query.drop_items_after(self.folder / "eval", step, again)
        elif not self.history:
            # With a history, another callback of this run may have written there already.
            set_aside(self.folder / "eval" / per_query.FOLDER)
        if self.history:
            self._write_results()

    def add(self, step: int, outcome: Outcome) -> None:
        """Take note of an evaluation: what the card shows of it, and its seconds."""
        self._card_results.setdefault(step, {}).update(outcome.card_results)
        self._seconds.update(outcome.seconds)

    def tell(self, result: EvalRecord, *, trainer_evaluates: bool) -> None:
        """Bring the files up to date and say what was measured; no process goes on if that cannot be done.

        Args:
            result: What was just measured.
            trainer_evaluates: Whether the Trainer evaluates at this step, and tells others of our values.
        """
        # The Trainer's table in a notebook has these values already: as a line they would stand there twice. It is
        # told of what the Trainer evaluates, and of the deciding metric after the first step.
        told = result.step > 0 and (trainer_evaluates or self.plan.selection.metric in result.metrics)
        with distributed.guarded():
            if distributed.is_main_process():
                self._write_results()
                if not (told and self.link.has_notebook_table):
                    report.show_line(self.run, result, self.link.trainer.args)

    def _write_results(self) -> None:
        history = self.history
        names = self._ordered(history.metric_names())
        info = self.info
        write_run(self.folder, info, history, names, self._lines)
        write_results(self.folder, history, info, names, self._rows)

    def write_training_table(self) -> None:
        """Bring the card's training table up to date."""
        primaries = [self.plan.selection.metric, *(self.primary_of(task) for task in self.tasks)]
        own = getattr(self.link.own_evaluator, "primary_metric", None)
        names = [name for name in dict.fromkeys([*primaries, own]) if isinstance(name, str)]
        model_card.rebuild_training_table(self.link.model, self.link.trainer.state.log_history, names)

    def primary_of(self, task: Task) -> str | None:
        """The key of an evaluator's primary metric, as far as known."""
        return task.primary_metric(name for name, owner in self.plan.owners.items() if owner is task)

    def keep_card_of(self, step: int) -> None:
        """Let the card that is saved now show what was measured at this step, and nothing older."""
        model_card.set_results(self.link.model, self._card_results.get(step, {}), self._all_evaluators())

    def fill_card(self, step: int, epoch: float, *, measure_missing: bool) -> None:
        """Let the card show the metrics of the model that is left.

        Args:
            step: The step that the model's weights are of.
            epoch: Passes over the training data done.
            measure_missing: Whether evaluators that did not run at that step are run on the model now.
        """
        results = dict(self._card_results.get(step, {}))
        record = self.history.at(step)
        missing = []
        for task in self.tasks:
            if any(one in results for one in inner_evaluators(task.evaluator)):
                continue
            logged = {} if record is None else self._card_from_log(task, record)
            results.update(logged)
            if not logged:
                missing.append(task)
        if missing and measure_missing:
            settings = EvalSettings.of(self.link.trainer.args)
            outcome = evaluate(
                missing, self.link.model, output_path=None, epoch=epoch, step=step, settings=settings, on_error="warn"
            )
            results.update(outcome.card_results)
            self._seconds.update(outcome.seconds)
        model_card.set_results(self.link.model, results, self._all_evaluators())
        self.write_training_table()

    def show_summary(self, best_checkpoint: str | None, note: str = "", *, plot: bool) -> None:
        """At the end, on the main process: draw the curves, and show the table and where the files are.

        Args:
            best_checkpoint: The best checkpoint, or None.
            note: What else is to be said.
            plot: Whether to draw; cards saved afterwards then show the curves.
        """
        with distributed.guarded():
            if distributed.is_main_process():
                session = report.Session(time.perf_counter() - self._started, dict(self._seconds), note)
                if plot:
                    model_card.set_curves(self.link.model, report.draw_curves(self.run))
                # Each callback shows a table of its own evaluators.
                own = replace(self.info, evaluators=self.info.evaluators[: len(self.tasks)])
                run = report.Run(self.folder, self.history, own)
                report.show_summary(run, self.link.trainer.args, session, best_checkpoint)

    def _all_evaluators(self) -> list[BaseEvaluator]:
        return [one for task in self.tasks for one in inner_evaluators(task.evaluator)]

    def _ordered(self, names: Sequence[str]) -> list[str]:
        """Names evaluator by evaluator, each in its own order, then all others by name.

        The Trainer sorts the log when it saves it, so the order in the log is another one after a resume.
        """
        owned = [name for task in self.tasks for name, owner in self.plan.owners.items() if owner is task]
        return [name for name in owned if name in names] + sorted(set(names) - set(owned))

    def _card_from_log(self, task: Task, record: EvalRecord) -> dict[BaseEvaluator, Mapping[str, float]]:
        """What the card showed of an evaluator at a step before a resume.

        The log holds one dict with the keys of the callback. Which evaluator inside shows which of them, and under
        which keys of its own, is seen from its latest run.
        """
        latest = {one: shown for results in self._card_results.values() for one, shown in results.items()}
        found: dict[BaseEvaluator, Mapping[str, float]] = {}
        for one in inner_evaluators(task.evaluator):
            keys = {key: task.key(key) for key in latest.get(one, ())}
            if values := {key: record.metrics[name] for key, name in keys.items() if name in record.metrics}:
                found[one] = values
        if not found and (logged := self._metrics_of(task, record)):
            found[task.evaluator] = logged
        return found

    def _metrics_of(self, task: Task, record: EvalRecord) -> dict[str, float]:
        owners = self.plan.owners
        own: Any = getattr(task.evaluator, "name", "") or task.prefix
        return {
            key: record.metrics[key]
            for key in self._ordered(list(record.metrics))
            if owners.get(key) is task or (key not in owners and own and key.startswith(f"{own}_"))
        }
