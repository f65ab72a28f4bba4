"""A sparse model trains with our evaluators in the callback: crash, resume, best model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sparse_encoder import evaluation as peer
from support.loop import WORDS, crash, logged, make_trainer, pairs, read_results
from support.models import tiny_sparse_model

from st_eval_callbacks import EvaluatorCallback, Scheduled, evaluators, last_checkpoint

DATA = pairs(16)
ANCHORS, POSITIVES = list(DATA["anchor"]), list(DATA["positive"])
OTHERS = POSITIVES[5:] + POSITIVES[:5]
KEY = "docs_dot_ndcg@10"
SAVE = {"kind": "sparse", "save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-3}


def build(kinds: Any = evaluators) -> list[Any]:
    """Of most tasks one, of this package or of sentence-transformers."""
    samples = [
        {"query": query, "positive": [positive], "negative": [other, f"{other} {WORDS[0]}"]}
        for query, positive, other in zip(ANCHORS, POSITIVES, OTHERS, strict=True)
    ]
    return [
        kinds.SparseInformationRetrievalEvaluator(
            {f"q{i}": text for i, text in enumerate(ANCHORS)},
            {f"d{i}": text for i, text in enumerate(POSITIVES)},
            {f"q{i}": {f"d{i}"} for i in range(16)},
            name="docs",
        ),
        kinds.SparseTripletEvaluator(ANCHORS, POSITIVES, OTHERS, name="triplets"),
        kinds.SparseRerankingEvaluator(samples, name="lists"),
        kinds.SparseEmbeddingSimilarityEvaluator(ANCHORS, POSITIVES, [i / 15 for i in range(16)], name="sts"),
        kinds.SparseTranslationEvaluator(ANCHORS, POSITIVES, name="words"),
        kinds.SparseMSEEvaluator(ANCHORS, POSITIVES, teacher_model=tiny_sparse_model(seed=5), name="teacher"),
    ]


def callback() -> EvaluatorCallback:
    retrieval, triplets, *others = build()
    return EvaluatorCallback(
        [retrieval, Scheduled(triplets, every=3), *others], every=2, primary=KEY, load_best_model_at_end=True
    )


def test_it_trains_resumes_and_loads_the_best_as_an_uninterrupted_run_does(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", [callback()], **SAVE)
    whole.train()
    crash(tmp_path / "torn", 7, [callback()], **SAVE)
    resumed = make_trainer(tmp_path / "torn", [callback()], **SAVE)
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path / "torn"))
    values = logged(whole, f"eval_{KEY}")
    assert [step for step, _ in values] == [2, 4, 6, 8]
    for key in (
        KEY,
        "docs_avg_flops",
        "triplets_dot_accuracy",
        "lists_map",
        "sts_spearman_dot",
        "teacher_negative_mse",
    ):
        assert logged(resumed, f"eval_{key}") == logged(whole, f"eval_{key}")
    assert [step for step, _ in logged(whole, "eval_triplets_dot_accuracy")] == [3, 6, 8]
    assert whole.state.best_metric == resumed.state.best_metric == max(value for _, value in values)
    tables = [read_results(tmp_path / run).drop(columns="seconds") for run in ("whole", "torn")]
    assert tables[0].filter(regex="^(?!.*runtime)").equals(tables[1].filter(regex="^(?!.*runtime)"))


def test_what_is_logged_for_the_loaded_best_is_what_the_peers_measure(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [callback()], **SAVE)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if entry["step"] == trainer.state.best_global_step]
    shown = {key: value for entry in logs for key, value in entry.items()}
    for evaluator in build(peer)[:1]:
        for key, value in evaluator(trainer.model).items():
            assert shown[f"eval_{key}"] == pytest.approx(value, rel=1e-5, abs=1e-6), key


def test_an_evaluator_for_dense_models_is_refused_by_name_before_the_first_step(tmp_path: Path) -> None:
    texts = dict(enumerate(dict.fromkeys(ANCHORS)))
    mining = evaluators.ParaphraseMiningEvaluator(texts, duplicates_list=[(0, 1)], name="mining")
    trainer = make_trainer(tmp_path, [EvaluatorCallback([build()[0], mining])], "sparse")
    with pytest.raises(TypeError, match="ParaphraseMiningEvaluator does not fit SparseEncoder"):
        trainer.train()
    assert trainer.state.global_step == 0
