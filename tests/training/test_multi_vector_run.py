"""A multi-vector model trains with our evaluators in the callback: crash, resume, best model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.loop import WORDS, crash, logged, make_trainer, pairs, read_results

from st_eval_callbacks import EvaluatorCallback, Scheduled, last_checkpoint
from st_eval_callbacks.evaluators import (
    EmbeddingSimilarityEvaluator,
    MultiVectorDistillationEvaluator,
    MultiVectorInformationRetrievalEvaluator,
    MultiVectorRerankingEvaluator,
    MultiVectorTripletEvaluator,
)

DATA = pairs(16)
ANCHORS, POSITIVES = list(DATA["anchor"]), list(DATA["positive"])
OTHERS = POSITIVES[5:] + POSITIVES[:5]
KEY = "docs_maxsim_ndcg@10"
SAVE = {"kind": "multi_vector", "save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-3}


def evaluators() -> list[Any]:
    """Of every task one."""
    retrieval = MultiVectorInformationRetrievalEvaluator(
        {f"q{i}": text for i, text in enumerate(ANCHORS)},
        {f"d{i}": text for i, text in enumerate(POSITIVES)},
        {f"q{i}": {f"d{i}"} for i in range(16)},
        name="docs",
    )
    samples = [
        {"query": query, "positive": [positive], "negative": [other, f"{other} {WORDS[0]}"]}
        for query, positive, other in zip(ANCHORS, POSITIVES, OTHERS, strict=True)
    ]
    documents = [list(each) for each in zip(POSITIVES, OTHERS, WORDS * 2, strict=True)]
    return [
        retrieval,
        Scheduled(MultiVectorTripletEvaluator(ANCHORS, POSITIVES, OTHERS, name="triplets"), every=3),
        MultiVectorRerankingEvaluator(samples, name="lists"),
        MultiVectorDistillationEvaluator(ANCHORS, documents, [[3.0, 1.0, 0.5]] * 16, name="teacher"),
    ]


def callback() -> EvaluatorCallback:
    return EvaluatorCallback(evaluators(), every=2, primary=KEY, load_best_model_at_end=True)


def test_it_trains_resumes_and_loads_the_best_as_an_uninterrupted_run_does(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", [callback()], **SAVE)
    whole.train()
    crash(tmp_path / "torn", 7, [callback()], **SAVE)
    resumed = make_trainer(tmp_path / "torn", [callback()], **SAVE)
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path / "torn"))
    values = logged(whole, f"eval_{KEY}")
    assert [step for step, _ in values] == [2, 4, 6, 8]
    assert len({value for _, value in values}) > 1
    for key in (KEY, "triplets_maxsim_accuracy", "lists_map", "teacher_spearman", "teacher_kl_divergence"):
        assert logged(resumed, f"eval_{key}") == logged(whole, f"eval_{key}")
    assert [step for step, _ in logged(whole, "eval_triplets_maxsim_accuracy")] == [3, 6, 8]
    assert whole.state.best_metric == resumed.state.best_metric == max(value for _, value in values)
    # What is loaded at the end is the best: it measures the same by hand.
    for trainer in (whole, resumed):
        by_hand = evaluators()[0](trainer.model)
        assert by_hand[KEY] == pytest.approx(trainer.state.best_metric, abs=1e-6)
    tables = [read_results(tmp_path / run).drop(columns="seconds") for run in ("whole", "torn")]
    assert tables[0].filter(regex="^(?!.*runtime)").equals(tables[1].filter(regex="^(?!.*runtime)"))
    assert len(list((tmp_path / "whole" / "eval").glob("*.csv"))) == 4


def test_an_evaluator_for_dense_models_is_refused_by_name_before_the_first_step(tmp_path: Path) -> None:
    evaluator = EmbeddingSimilarityEvaluator(ANCHORS, POSITIVES, [i / 15 for i in range(16)], name="sts")
    trainer = make_trainer(tmp_path, [EvaluatorCallback([evaluators()[0], evaluator])], "multi_vector")
    with pytest.raises(TypeError, match="EmbeddingSimilarityEvaluator does not fit MultiVectorEncoder"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_misspelt_metric_is_refused_with_the_one_probably_meant(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(evaluators(), primary="docs_maxsin_ndcg@10")], "multi_vector")
    with pytest.raises(ValueError, match=f"Did you mean '{KEY}'"):
        trainer.train()
    assert trainer.state.global_step == 0
