"""How a callback reaches the trainer that runs it. The only room that knows."""

from __future__ import annotations

import inspect
import logging
import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from transformers import DefaultFlowCallback, ProgressCallback, Trainer, TrainerCallback

from .checkpoints import checkpoint_folders, mark_unfinished
from .history import is_better
from .trainer_watch import watch

logger = logging.getLogger(__name__)

_Callback = TypeVar("_Callback", bound=TrainerCallback)


class TrainerLink:
    """What a callback may ask of, and do to, its trainer.

    Args:
        trainer: The trainer that runs the callback.

    Attributes:
        min_delta: Only a value that is better by more than this takes the place of the best, >= 0.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.min_delta = 0.0
        self._insists_at = -1

    @classmethod
    def from_stack(cls, callback: TrainerCallback) -> TrainerLink | None:
        """Find the trainer among the callers of the event being handled.

        Every event is fired by a method of the Trainer, but none of them hands the trainer over.

        Args:
            callback: The callback that was called.

        Returns:
            The link, or None when no trainer that has this callback is among the callers.
        """
        for caller, _ in _trainers_calling():
            handler = getattr(caller, "callback_handler", None)
            if handler is not None and callback in handler.callbacks:
                return cls(caller)
        return None

    @classmethod
    def connect(cls, callback: TrainerCallback, known: TrainerLink | None) -> TrainerLink:
        """The link to the trainer that calls now, else the one known; a new one puts the callback in its place.

        Args:
            callback: The callback that was called.
            known: The link it has.

        Raises:
            RuntimeError: When there is neither.
        """
        found = cls.from_stack(callback)
        if found is not None and (known is None or known.trainer is not found.trainer):
            found.join(callback)
            return found
        if known is None:
            raise RuntimeError(
                "EvaluatorCallback was called by no Trainer that has it: pass it in callbacks=[...], to "
                "trainer.add_callback(callback), or call callback.attach(trainer)."
            )
        return known

    @property
    def model(self) -> Any:
        """The model as the user made it, without wrappers for several processes."""
        return self.trainer.model

    @property
    def in_training(self) -> bool:
        """Whether `train()` is running; the Trainer's own flag stays set when training was interrupted."""
        callers = _trainers_calling()
        return bool(self.trainer.is_in_train) and any(
            caller is self.trainer and method == "train" for caller, method in callers
        )

    @property
    def output_dir(self) -> str:
        """Where this run writes; a trial of a hyperparameter search has its own folder."""
        trial = getattr(self.trainer, "_trial", None)
        return str(self.trainer.args.output_dir if trial is None else self.trainer._get_output_dir(trial))

    @property
    def evaluates_by_itself(self) -> bool:
        """Whether the Trainer has something of its own to evaluate."""
        return self.trainer.eval_dataset is not None or getattr(self.trainer, "evaluator", None) is not None

    @property
    def own_evaluator(self) -> Any:
        """The evaluator that was given to the trainer itself, or None."""
        return getattr(self.trainer, "evaluator", None)

    @property
    def has_notebook_table(self) -> bool:
        """Whether transformers' progress callback for notebooks shows a table of what is evaluated."""
        # Its module needs IPython.
        classes = [cls for callback in self.trainer.callback_handler.callbacks for cls in type(callback).__mro__]
        return any(cls.__name__ == "NotebookProgressCallback" for cls in classes)

    @property
    def measures_unknown_metrics(self) -> bool:
        """Whether the Trainer's own evaluation measures more than the loss."""
        return self.own_evaluator is not None or self.trainer.compute_metrics is not None

    def trainer_metric_names(self) -> set[str]:
        """Names (without "eval_") of what the Trainer's own evaluation measures, as far as they can be known."""
        dataset = self.trainer.eval_dataset
        if dataset is None:
            return set()
        prefixes = [f"{name}_" for name in dataset] if isinstance(dataset, dict) else [""]
        return {f"{prefix}{key}" for prefix in prefixes for key in ("loss", "runtime")}

    def is_first_dataset(self, metrics: dict[str, float]) -> bool:
        """Whether these metrics are those of the first of several eval datasets (or of the only one).

        The Trainer fires one event a dataset and merges them; a metric put into two of them would be counted twice.
        """
        dataset = self.trainer.eval_dataset
        if not isinstance(dataset, dict) or not dataset:
            return True
        return f"eval_{next(iter(dataset))}_runtime" in metrics

    def join(self, callback: TrainerCallback) -> None:
        """Watch the trainer from now on, and put a callback in its place."""
        self.place_callback(callback)
        watch(self.trainer, lambda: self._insists_at, self._is_too_little, lambda: self.output_dir)

    def _is_too_little(self, metrics: dict[str, float]) -> bool:
        """Whether an evaluation of the Trainer is not better enough to be the best."""
        args, best = self.trainer.args, self.trainer.state.best_metric
        value = metrics.get(args.metric_for_best_model or "")
        if not self.min_delta or best is None or value is None:
            return False
        return not is_better(value, best, bool(args.greater_is_better), self.min_delta)

    def place_callback(self, callback: TrainerCallback) -> None:
        """Move the callback right behind `DefaultFlowCallback`.

        There it sees the flags as the arguments want them, and reporters and early stopping come after it. Others of
        its class may stand between.
        """
        callbacks = self.trainer.callback_handler.callbacks
        flow = [i for i, other in enumerate(callbacks) if isinstance(other, DefaultFlowCallback)]
        place = flow[0] + 1 if flow else 0
        if all(isinstance(other, type(callback)) for other in callbacks[place : callbacks.index(callback)]):
            return
        callbacks.remove(callback)
        callbacks.insert(place, callback)

    def others_like(self, callback: _Callback) -> list[_Callback]:
        """The trainer's other callbacks of the same class."""
        every = self.trainer.callback_handler.callbacks
        return [other for other in every if isinstance(other, type(callback)) and other is not callback]

    def insist_on_save(self) -> None:
        """Have this step saved, also where the Trainer evaluates and finds no new best.

        With `save_strategy="best"` it would then take the flag back.
        """
        self.trainer.control.should_save = True
        self._insists_at = self.trainer.state.global_step

    def log(self, entry: dict[str, Any]) -> None:
        """Send metrics to `log_history` and all reporters, leaving the control flags as they are.

        `Trainer.log` clears `should_log`, which would swallow the training loss of this step. Nothing is printed
        between the bars: what is to be read there is one line, not every metric.
        """
        with self._flags_kept(), self._bars_silent():
            self.trainer.log(entry)

    def tell_others(self, metrics: dict[str, float], callback: TrainerCallback) -> None:
        """Fire `on_evaluate` for all callbacks but this one, as for an evaluation of the Trainer.

        Early stopping counts it and notebooks show it. A copy goes out: some callbacks take keys away.
        """
        handler = self.trainer.callback_handler
        position = handler.callbacks.index(callback)
        handler.callbacks.remove(callback)
        try:
            with self._flags_kept():
                handler.on_evaluate(self.trainer.args, self.trainer.state, self.trainer.control, dict(metrics))
        finally:
            handler.callbacks.insert(position, callback)

    @contextmanager
    def _bars_silent(self) -> Iterator[None]:
        """Keep transformers' progress callback from printing what is logged; it prints where it has a bar."""
        silent = [one for one in self.trainer.callback_handler.callbacks if isinstance(one, ProgressCallback)]
        bars = [one.training_bar for one in silent]
        for one in silent:
            one.training_bar = None
        try:
            yield
        finally:
            for one, bar in zip(silent, bars, strict=True):
                one.training_bar = bar

    @contextmanager
    def _flags_kept(self) -> Iterator[None]:
        control = self.trainer.control
        kept = {name: getattr(control, name) for name in ("should_log", "should_evaluate", "should_save")}
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(self.trainer.control, name, value)

    def optimizer_to_eval(self) -> None:
        """Let optimizers that keep two sets of weights (schedule-free) show the ones to evaluate.

        The Trainer puts them back to training itself before the next step, and saves what is shown now.
        """
        optimizer = self.trainer.optimizer
        to_eval = getattr(optimizer, "eval", None)
        if callable(to_eval):
            to_eval()

    def expect_deletions(self) -> None:
        """Once training is over, `save_total_limit=1` deletes all but the best: let none be resumed from half gone."""
        best = self.trainer.state.best_model_checkpoint
        if best is None or self.trainer.args.save_total_limit != 1 or not self.trainer.args.should_save:
            return
        for _, folder in checkpoint_folders(self.output_dir):
            if not os.path.samefile(folder, best):
                mark_unfinished(folder)

    def repair_best_checkpoint(self) -> None:
        """Find the best checkpoint again after `output_dir` was moved or given relative to another folder."""
        state = self.trainer.state
        if not state.best_global_step:
            return
        known = state.best_model_checkpoint
        if known is not None and os.path.isdir(known):
            return
        here = os.path.join(self.output_dir, f"checkpoint-{state.best_global_step}")
        if os.path.isdir(here):
            state.best_model_checkpoint = here
        else:
            logger.warning(
                "the best checkpoint so far (step %s) is neither at %s nor at %s; it cannot be loaded at the end "
                "unless a better one comes.",
                state.best_global_step,
                known,
                here,
            )


def _trainers_calling() -> Iterator[tuple[Trainer, str]]:
    """Yield each trainer among the callers with the name of its method, the innermost first."""
    frame: types.FrameType | None = inspect.currentframe()
    try:
        while frame is not None:
            caller = frame.f_locals.get("self")
            if isinstance(caller, Trainer):
                yield caller, frame.f_code.co_name
            frame = frame.f_back
    finally:
        del frame
