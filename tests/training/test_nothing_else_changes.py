"""Training is bit for bit what it would be without the callback, whatever evaluators do."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.loop import WORDS, Fake, equal_weights, logged, make_trainer, pairs, weights_of
from support.models import tiny_model
from transformers import TrainerCallback

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.encoding.token_store import token_store
from st_eval_callbacks.evaluators import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    MSEEvaluator,
    SequentialEvaluator,
)

NAN = float("nan")
TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]


class Careless(Fake):
    """Draws random numbers and leaves modes as they should not be left.

    Args:
        fails: Whether it raises in the end.
    """

    def __init__(self, fails: bool = False) -> None:
        super().__init__(NAN)
        self.fails = fails

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Do all that an evaluator should not."""
        for _ in range(3):
            torch.rand(7), np.random.rand(7), random.random()
        model.encode(["cat dog"])
        model.train(len(self.steps) % 2 == 0)
        model[0].train(len(self.steps) % 3 == 0)
        torch.set_grad_enabled(len(self.steps) % 2 == 1)
        metrics = super().__call__(model, *args, **kwargs)
        if self.fails:
            raise RuntimeError("out of ideas")
        return metrics


def similarity() -> Any:
    return EmbeddingSimilarityEvaluator(TEXTS[:20], TEXTS[20:40], [i / 20 for i in range(20)])


def retrieval() -> Any:
    corpus = {f"d{i}": text for i, text in enumerate(TEXTS)}
    return InformationRetrievalEvaluator({f"q{word}": word for word in WORDS}, corpus, {f"q{WORDS[0]}": {"d0", "d3"}})


def bundled() -> list[Any]:
    return [similarity(), retrieval(), MSEEvaluator(TEXTS[:20], TEXTS[:20], teacher_model=tiny_model(seed=3))]


class Spy(TrainerCallback):
    """Notes what the callback before it left behind after each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Note it."""
        kind, keys, *rest = np.random.get_state()
        self.seen.append(
            {
                "python": random.getstate(),
                "numpy": (kind, keys.tolist(), rest),
                "torch": torch.get_rng_state().tolist(),
                "modes": [module.training for module in model.modules()],
                "grad": torch.is_grad_enabled(),
                "inference": torch.is_inference_mode_enabled(),
                "flags": {name: value for name, value in vars(control).items() if name.startswith("should_")},
            }
        )


def run(folder: Path, callback: EvaluatorCallback | None, **arguments: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Train a model with much dropout, and note what there is after each step."""
    spy = Spy()
    callbacks = [spy] if callback is None else [callback, spy]
    trainer = make_trainer(folder, callbacks, model=tiny_model(dropout=0.3, dense=16), **arguments)
    trainer.train()
    return trainer, spy.seen


EVALUATORS: dict[str, Callable[[], Any]] = {
    "careless": lambda: EvaluatorCallback(Careless(), every=1),
    "failing": lambda: EvaluatorCallback(Careless(fails=True), every=1, on_error="warn"),
    "bundled": lambda: EvaluatorCallback(bundled(), every=1),
    "at_start": lambda: EvaluatorCallback(
        [Scheduled(one, every=2, at_start=True) for one in [Careless(), *bundled()]]
    ),
    "following": lambda: EvaluatorCallback([Careless(), *bundled()]),
}
TRAININGS: dict[str, Callable[[], dict[str, Any]]] = {
    "epochs": dict,
    "accumulation": lambda: {"gradient_accumulation_steps": 2},
    "max_steps": lambda: {"max_steps": 7},
    "shares": lambda: {
        "eval_strategy": "steps",
        "eval_steps": 0.25,
        "logging_steps": 0.25,
        "eval_dataset": pairs(8),
        "metric_for_best_model": "loss",
    },
    "stream": lambda: {"train_dataset": pairs(24).to_iterable_dataset(), "max_steps": 7},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, list[dict[str, Any]]]]:
    """Each training without the callback, run once."""
    return cache(lambda training: run(tmp_path_factory.mktemp(training), None, **TRAININGS[training]()))


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("evaluators", EVALUATORS)
def test_losses_weights_and_states_are_the_same_with_and_without_the_callback(
    tmp_path: Path, plain: Any, evaluators: str, training: str
) -> None:
    without, seen_without = plain(training)
    trainer, seen = run(tmp_path, EVALUATORS[evaluators](), **TRAININGS[training]())
    for key in ("loss", "grad_norm", "eval_loss"):
        assert logged(trainer, key) == logged(without, key)
    assert equal_weights(weights_of(trainer.model), weights_of(without.model))
    for step, (found, wanted) in enumerate(zip(seen, seen_without, strict=True), start=1):
        assert found == wanted, f"after step {step}"


def test_saving_each_new_best_changes_no_loss_and_no_weight(tmp_path: Path, plain: Any) -> None:
    without, seen_without = plain("epochs")
    callback = EvaluatorCallback(Fake({step: step / 10 for step in range(9)}), every=1)
    trainer, seen = run(tmp_path, callback, save_strategy="best", metric_for_best_model="fake_score")
    assert logged(trainer, "loss") == logged(without, "loss")
    assert equal_weights(weights_of(trainer.model), weights_of(without.model))
    assert [found["torch"] for found in seen] == [wanted["torch"] for wanted in seen_without]
    assert [found["flags"].pop("should_save") for found in seen] == [True] * 8


def test_two_callbacks_change_no_more_than_none(tmp_path: Path, plain: Any) -> None:
    without, _ = plain("epochs")
    failing = EvaluatorCallback({"failing": Careless(fails=True)}, every=1, on_error="warn", primary="spearman_cosine")
    callbacks = [EvaluatorCallback(bundled(), every=2, primary="spearman_cosine"), failing]
    trainer = make_trainer(tmp_path, callbacks, model=tiny_model(dropout=0.3, dense=16))
    trainer.train()
    assert logged(trainer, "loss") == logged(without, "loss")
    assert equal_weights(weights_of(trainer.model), weights_of(without.model))


# -- memory -----------------------------------------------------------------------------------------------------------

# More numbers than any weight, gradient or batch of the tiny model has: such a tensor holds embeddings.
LARGE = 3000


def large_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) and one.numel() > LARGE for one in gc.get_objects())


def test_no_embedding_outlives_its_evaluation_and_nothing_grows(tmp_path: Path) -> None:
    inside: list[int] = []
    after: list[tuple[int, int, int]] = []

    def count(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        inside.append(large_tensors())
        return 0.0

    class Count(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            store = token_store(model)
            after.append((large_tensors(), len(store), store.num_bytes))

    corpus = {f"d{i}": f"{one} {WORDS[i % 8]} {i}" for i, one in enumerate(WORDS * 40)}
    search = InformationRetrievalEvaluator({"q": "cat"}, corpus, {"q": {"d0"}})
    sequence = SequentialEvaluator([search, similarity()])
    callback = EvaluatorCallback({"sequence": sequence, "count": count}, every=1)
    before = large_tensors()
    make_trainer(tmp_path, [callback, Count()], max_steps=6).train()
    assert min(inside) > before
    assert [number for number, _, _ in after] == [before] * 6
    # What is kept between evaluations are token ids, each text's once and no more than a limit.
    assert len({(number, size) for _, number, size in after}) == 1
    assert large_tensors() == before


def test_a_model_that_is_gone_takes_what_was_kept_of_it_along(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(bundled())], max_steps=2)
    trainer.train()
    model = weakref.ref(trainer.model[0])
    store = weakref.ref(token_store(trainer.model))
    assert len(store()) > 0
    del trainer
    gc.collect()
    assert (model(), store()) == (None, None)
