"""`EvaluatorCallback`: it owns evaluation during training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import best, distributed, event, trials
from .history import History
from .plan import make_plan, obey_eval_steps, optimizer_steps_per_epoch
from .run_record import RunRecord
from .schedule import Interval, IntervalLike, Progress
from .tasks import EvaluatorLike, Task, build_tasks
from .trainer_link import TrainerLink


class EvaluatorCallback(TrainerCallback):
    """Runs evaluators during training, keeps the best checkpoint and writes the results.

    Pass it in `callbacks=[...]` or to `trainer.add_callback(...)`. Everything not said here is taken from the
    trainer's arguments: `eval_strategy`, `eval_steps`, `eval_delay`, `eval_on_start`, `metric_for_best_model`,
    `greater_is_better`, `load_best_model_at_end`, `save_strategy`, `per_device_eval_batch_size`, `disable_tqdm`,
    `bf16_full_eval` and `fp16_full_eval` (texts are then encoded under autocast).

    In `trainer.hyperparameter_search(direction=...)` the metric that decides the best is the objective, unless
    `compute_objective` says otherwise; that is given the metrics of each evaluation in which the deciding one was
    measured. A trial is worth the model it leaves: the best one when that is loaded at the end, else the last.

    Args:
        evaluators: One evaluator, a list, or `{name: evaluator}`; each a bundled one, one of
            sentence-transformers, any callable with the same signature, or a `Scheduled(...)` around one.
        every: Interval of those that have none of their own, such as 100 (steps), "0.25 epochs" or "10%". None follows
            the Trainer's evaluations; with `eval_strategy="no"` that is once an epoch and at the end.
        primary: Metric that decides the best, with or without "eval_". None takes `metric_for_best_model`, else the
            primary metric of the first evaluator.
        load_best_model_at_end: None keeps the argument; True also works where `TrainingArguments` refuses
            to combine it.
        early_stopping_patience: Stop after this many evaluations of the primary metric without improvement;
            None never.
        early_stopping_threshold: Least improvement that counts for the patience, >= 0.
        min_delta: Only a value that is better by more than this takes the place of the best, >= 0. Differences within
            the noise of the data then cost no checkpoint.
        checkpoint_every: Interval of extra checkpoints to resume from, for `save_strategy="best"`.
        on_error: "raise", or "warn" to log a failed evaluator and train on.
        keep_per_query: Whether all bundled evaluators keep one value for each query, pair or item, in
            `<output_dir>/eval/per_query`; False leaves it to each.
        plot: Whether `evaluation_curves.png` is drawn at the end, and shown by model cards saved from then on; needs
            matplotlib.

    Raises:
        ValueError: When an option cannot be read.
        TypeError: When something is not an evaluator.
    """

    def __init__(
        self,
        evaluators: EvaluatorLike | Iterable[EvaluatorLike] | Mapping[str, EvaluatorLike],
        *,
        every: IntervalLike | None = None,
        primary: str | None = None,
        load_best_model_at_end: bool | None = None,
        early_stopping_patience: int | None = None,
        early_stopping_threshold: float = 0.0,
        min_delta: float = 0.0,
        checkpoint_every: IntervalLike | None = None,
        on_error: str = "raise",
        keep_per_query: bool = False,
        plot: bool = True,
    ) -> None:
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error={on_error!r}: 'raise' or 'warn'.")
        if early_stopping_patience is not None and early_stopping_patience < 1:
            raise ValueError(f"early_stopping_patience={early_stopping_patience}: at least 1, or None for never.")
        if early_stopping_threshold < 0:
            raise ValueError(f"early_stopping_threshold={early_stopping_threshold}: at least 0.")
        if not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta={min_delta}: a finite number, at least 0.")
        self.tasks = build_tasks(evaluators, every, keep_per_query=keep_per_query)
        self.primary = primary
        self.load_best_model_at_end = load_best_model_at_end
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold
        self.min_delta = min_delta
        self.checkpoint_every = None if checkpoint_every is None else Interval.parse(checkpoint_every)
        self.on_error = on_error
        self.plot = plot
        self._link: TrainerLink | None = None
        self._previous = Progress(0, 0.0, 1)
        self._saved_step = -1
        self._save_put_off_at = -1
        self._put_back_eval_on_start = False
        self._record: RunRecord | None = None

    # -- the trainer -------------------------------------------------------------------------------------------------

    def attach(self, trainer: Trainer) -> EvaluatorCallback:
        """Join a trainer explicitly.

        Args:
            trainer: Where the callback is added, unless it is there already.

        Returns:
            This callback.
        """
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._link = TrainerLink(trainer)
        self._link.join(self)
        return self

    @property
    def history(self) -> History:
        """All evaluations of the run so far, derived from the trainer's log."""
        return History() if self._link is None else History.from_log(self._link.trainer.state.log_history)

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the trainer."""
        self._connect()

    def _connect(self) -> TrainerLink:
        self._link = TrainerLink.connect(self, self._link)
        return self._link

    # -- before the first step ---------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Settle the plan, put the files in order, and run what is due before the first step."""
        link = self._connect()
        # The trainer of sparse encoders puts a callback of its own first once all others are in their places.
        link.place_callback(self)
        self._eval_on_start_as_given(args)
        distributed.warn_if_apart()
        dataloader = kwargs.get("train_dataloader")
        plan = make_plan(
            self.tasks,
            link,
            args,
            state,
            primary=self.primary,
            load_best_model_at_end=self.load_best_model_at_end,
            min_delta=self.min_delta,
            steps_per_epoch=optimizer_steps_per_epoch(dataloader, args.gradient_accumulation_steps),
            others=[task for other in link.others_like(self) for task in other.tasks],
        )
        link.min_delta = self.min_delta
        trials.compare_by_deciding_metric(link)
        self._previous = Progress(state.global_step, state.epoch or 0.0, state.max_steps)
        self._saved_step = state.global_step
        self._record = RunRecord(link, self.tasks, plan)
        self._record.order_files(state.global_step)
        if state.global_step > 0:
            self._resume(args, state, control)
        if state.global_step == 0:
            starts = [task for task in self.tasks if task.schedule.at_start or args.eval_on_start]
            self._evaluate(starts, args, state, control, trainer_evaluates=True)
            if args.eval_on_start and not link.evaluates_by_itself:
                # The Trainer would now evaluate, and fail: it has nothing to evaluate.
                args.eval_on_start, self._put_back_eval_on_start = False, True

    def _resume(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        link, plan = self._connect(), self._run.plan
        obey_eval_steps(args, state)
        best.warn_if_over(state)
        self._stop_without_improvement(state, control)
        if state.global_step >= state.max_steps or control.should_training_stop:
            # The run was cut off between its last checkpoint and its end.
            due = plan.due(self.tasks, args, self._previous, self._previous, True, False)
            self._evaluate(due, args, state, control, trainer_evaluates=False)
        best.recall(plan.selection, self._run.history, state)
        link.repair_best_checkpoint()
        self._run.write_training_table()

    # -- during training ---------------------------------------------------------------------------------------------

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Run what is due at this step."""
        current = Progress(state.global_step, state.epoch or 0.0, state.max_steps)
        is_last = state.global_step >= state.max_steps or control.should_training_stop
        # The Trainer evaluates a finished epoch only after it has saved this step; done now, its checkpoint knows.
        epoch_ends = is_last or abs(current.epoch - round(current.epoch)) < 1e-6
        after_epoch = args.eval_strategy == "epoch" and epoch_ends and args.eval_delay <= current.epoch
        evaluates = control.should_evaluate or after_epoch
        due = self._run.plan.due(self.tasks, args, self._previous, current, is_last, evaluates)
        self._evaluate(due, args, state, control, trainer_evaluates=evaluates)
        if self.checkpoint_every is not None and self.checkpoint_every.crossed(self._previous, current):
            self._connect().insist_on_save()
        self._previous = current
        if after_epoch and not control.should_evaluate and control.should_save:
            # The Trainer decides about the best at the end of the epoch; saved then, the checkpoint knows of it.
            control.should_save, self._save_put_off_at = False, state.global_step
        if control.should_save:
            self._run.keep_card_of(state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Run what became due with the end of the epoch: data without a length, an early stop."""
        is_last = state.global_step >= state.max_steps or control.should_training_stop
        epoch = state.epoch or 0.0
        current = Progress(state.global_step, epoch if is_last else math.ceil(epoch - 1e-6), state.max_steps)
        due = self._run.plan.due(self.tasks, args, self._previous, current, is_last, control.should_evaluate)
        ran = self._evaluate(due, args, state, control, trainer_evaluates=control.should_evaluate)
        # A checkpoint of this step that was put off, or written before these results, is written with them.
        if self._save_put_off_at == state.global_step or (ran and self._saved_step == state.global_step):
            self._connect().insist_on_save()
        self._previous = current
        if control.should_save:
            self._run.keep_card_of(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remember which step has a checkpoint."""
        self._saved_step = state.global_step

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Put our metrics into those of a Trainer evaluation, which decides the best by them."""
        link = self._connect()
        metrics = {} if metrics is None else metrics
        if not link.in_training:
            metrics.update(event.measure(link, self.tasks, args, None, self.on_error).log_entry())
            return
        plan = self._run.plan
        primary = [] if plan.selection.task is None else [plan.selection.task]
        followers = [task for task in self.tasks if task.follows_trainer or task in primary]
        self._evaluate(followers, args, state, control, trainer_evaluates=True)
        record = self._run.history.at(state.global_step)
        if link.is_first_dataset(metrics):
            metrics.update({} if record is None else record.log_entry())
            best.require_primary(plan, metrics, tolerant=self.on_error == "warn")
        if state.global_step == 0:
            return
        if plan.saves and best.beats(metrics.get(plan.selection.log_key or "", math.nan), plan.selection, state):
            control.should_save = True
        if control.should_save:
            self._run.keep_card_of(state.global_step)

    # -- one evaluation ----------------------------------------------------------------------------------------------

    def _evaluate(
        self,
        tasks: list[Task],
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        trainer_evaluates: bool,
    ) -> bool:
        """Run those that have not run at this step, and do all that follows from it; whether anything ran."""
        record = self._run.history.at(state.global_step)
        waiting = [task for task in tasks if record is None or task.name not in record.seconds]
        if not waiting:
            return False
        link, run = self._connect(), self._run
        link.optimizer_to_eval()
        result = event.measure(link, waiting, args, run, self.on_error)
        event.note(link, run, result)
        if not trainer_evaluates:
            best.take_over(run.plan, result, link, self)
        self._stop_without_improvement(state, control)
        run.tell(result, trainer_evaluates=trainer_evaluates)
        if not trainer_evaluates:
            trials.report(link, result.log_entry())
        return True

    def _stop_without_improvement(self, state: TrainerState, control: TrainerControl) -> None:
        if self.early_stopping_patience is not None:
            best.stop_after(
                self.early_stopping_patience,
                self.early_stopping_threshold,
                self._run.plan.selection,
                self._run.history,
                state,
                control,
            )

    # -- after the last step -----------------------------------------------------------------------------------------

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Get ready for what the Trainer deletes once it has logged the end of training."""
        if "train_runtime" in (kwargs.get("logs") or {}):
            self._connect().expect_deletions()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the card tell of the model that is left, and show the table."""
        self._eval_on_start_as_given(args)
        plan = self._run.plan
        loaded = args.load_best_model_at_end and state.best_model_checkpoint is not None
        step = (state.best_global_step or state.global_step) if loaded else state.global_step
        self._run.fill_card(step, state.epoch or 0.0, measure_missing=bool(loaded))
        best.warn_of_best_baseline(plan.selection, self._run.history)
        note = best.stop_note(
            self.early_stopping_patience, self.early_stopping_threshold, plan.selection, self._run.history, state
        )
        self._run.show_summary(state.best_model_checkpoint, note, plot=self.plot)
        trials.settle_objective(self._connect(), step if loaded else None)

    def _eval_on_start_as_given(self, args: TrainingArguments) -> None:
        # Also before training: a run that ended by an error had no end.
        if self._put_back_eval_on_start:
            args.eval_on_start, self._put_back_eval_on_start = True, False

    @property
    def _run(self) -> RunRecord:
        if self._record is None:
            raise RuntimeError("EvaluatorCallback: training events arrived before on_train_begin.")
        return self._record
