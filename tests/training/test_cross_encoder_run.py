"""A cross-encoder trains with our evaluators: breaks off, resumes, loads the best."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from support.cards import card_metrics
from support.loop import crash, equal_weights, labelled_pairs, make_trainer, read_results, weights_of, without_times

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.evaluators import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)

DATA = labelled_pairs()
PAIRS = list(zip(DATA["anchor"], DATA["positive"], strict=True))[:16]
SCORES = [place * 5 % 7 for place in range(len(PAIRS))]
SAMPLES = [
    {"query": query, "positive": [right], "documents": [PAIRS[place - 1][1], right, PAIRS[place - 2][1]]}
    for place, (query, right) in enumerate(PAIRS)
]
SAVES: dict[str, Any] = {"kind": "cross", "save_strategy": "steps", "save_steps": 4}


def evaluators() -> list[Any]:
    return [
        CrossEncoderRerankingEvaluator(SAMPLES, name="rank"),
        Scheduled(CrossEncoderCorrelationEvaluator(PAIRS, SCORES, name="sts"), every=4, at_start=True),
        CrossEncoderClassificationEvaluator(PAIRS, [int(one) for one in DATA["label"][:16]], name="classes"),
    ]


def callback() -> EvaluatorCallback:
    return EvaluatorCallback(evaluators(), every=2, load_best_model_at_end=True)


def test_a_run_that_is_broken_off_and_resumed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", [callback()], **SAVES)
    whole.train()
    crash(tmp_path / "cut", 5, [callback()], **SAVES)
    resumed_callback = callback()
    resumed = make_trainer(tmp_path / "cut", [resumed_callback], **SAVES)
    resumed.train(resume_from_checkpoint=True)

    assert without_times(resumed.state.log_history) == without_times(whole.state.log_history)
    assert equal_weights(weights_of(resumed.model), weights_of(whole.model))
    table, other = (read_results(tmp_path / name).drop(columns="seconds") for name in ("whole", "cut"))
    kept = [column for column in table.columns if not column.endswith("runtime")]
    assert table[kept].equals(other[kept])
    assert table["steps"].tolist() == [0, 2, 4, 6, 8]
    for evaluator in (evaluators()[0], evaluators()[2]):
        with (tmp_path / "cut" / "eval" / evaluator.csv_file).open(newline="") as stream:
            assert [row["steps"] for row in csv.DictReader(stream)] == ["2", "4", "6", "8"]

    best = resumed_callback.history.best("rank_ndcg@10")
    assert best is not None
    assert resumed.state.best_global_step == best.step
    for evaluator in [one.evaluator if isinstance(one, Scheduled) else one for one in evaluators()]:
        for key, value in evaluator(resumed.model).items():
            if key in best.metrics:
                assert value == pytest.approx(best.metrics[key], abs=1e-6)
    shown = card_metrics(tmp_path / "cut" / f"checkpoint-{best.step}")
    assert shown["rank", "ndcg@10"] == pytest.approx(best.metrics["rank_ndcg@10"], abs=1e-4)
    assert shown["classes", "average_precision"] == pytest.approx(best.metrics["classes_average_precision"], abs=1e-4)


def test_training_is_what_it_is_without_evaluation(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", kind="cross")
    plain.train()
    evaluated = make_trainer(tmp_path / "evaluated", [EvaluatorCallback(evaluators(), every=1)], kind="cross")
    evaluated.train()
    assert equal_weights(weights_of(plain.model), weights_of(evaluated.model))
    losses = [[entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (plain, evaluated)]
    assert losses[0] == losses[1]


def test_pairs_of_all_due_evaluators_are_scored_once_in_an_event(tmp_path: Path) -> None:
    sizes: list[int] = []
    trainer = make_trainer(tmp_path, [EvaluatorCallback(evaluators(), every=4)], kind="cross", max_steps=4)
    trainer.model[0].register_forward_pre_hook(
        lambda module, args, kwargs: None if module.training else sizes.append(len(args[0]["input_ids"])),
        with_kwargs=True,
    )
    trainer.train()
    asked = {*PAIRS, *((sample["query"], one) for sample in SAMPLES for one in sample["documents"])}
    # Before the first step only one evaluator runs.
    assert sum(sizes) == len(set(PAIRS)) + len(asked)
