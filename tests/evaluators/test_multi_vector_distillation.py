"""Distillation of a teacher's scores: sentence-transformers' values, and what must come out right."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.multi_vector_encoder import evaluation as peer
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util.similarity import maxsim_pairwise, mean_maxsim_pairwise
from support.models import tiny_model, tiny_multi_vector_model
from support.parity import assert_equal_to_peer, sentences

from benchmarks.multi_vector import StubMultiVectorModel
from st_eval_callbacks.evaluators import MultiVectorDistillationEvaluator

QUERIES = sentences(8, 1)
RANDOM = random.Random(0)
NESTED = (QUERIES, [sentences(5, 10 + i) for i in range(8)], [[RANDOM.gauss(3, 2) for _ in range(5)] for _ in QUERIES])
FLAT = (QUERIES, sentences(8, 2), [RANDOM.gauss(3, 2) for _ in QUERIES])
MODEL = {"a": torch.eye(2), "p": torch.eye(2), "n": torch.eye(2)[:1], "o": torch.eye(2)[1:]}


@pytest.mark.parametrize("data", [NESTED, FLAT], ids=["nested", "flat"])
@pytest.mark.parametrize("model", [{}, {"similarity_fn_name": "meanmaxsim", "prompts": {"query": "find : "}}])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "temperature": 0.5, "batch_size": 3},
        {"student_temperature": 2.0, "teacher_temperature": 0.7},
        {"similarity_fct": mean_maxsim_pairwise},
        {"similarity_fct": scoring.mean_colbert_scores_pairwise, "temperature": 2.0},
    ],
)
def test_it_is_equal_to_the_peer(
    data: Any, model: dict[str, Any], settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = MultiVectorDistillationEvaluator(*data, **settings)
    theirs = peer.MultiVectorDistillationEvaluator(*data, **settings)
    assert_equal_to_peer(ours, theirs, tiny_multi_vector_model(**model), tmp_path, caplog, tolerance=1e-5)


def test_values_are_those_of_float64() -> None:
    model = tiny_multi_vector_model()
    queries, documents = model.encode_query(QUERIES), [model.encode_document(each) for each in NESTED[1]]
    student = torch.stack(
        [maxsim_pairwise([query] * 5, each) for query, each in zip(queries, documents, strict=True)]
    ).double()
    teacher = torch.tensor(NESTED[2], dtype=torch.float32).double()
    p, q = teacher.softmax(1), student.softmax(1)
    expected = float((p * (p / q).log()).sum(1).mean())
    assert MultiVectorDistillationEvaluator(*NESTED)(model)["kl_divergence"] == pytest.approx(expected, rel=1e-6)


def test_a_student_that_scores_as_the_teacher_has_no_divergence() -> None:
    evaluator = MultiVectorDistillationEvaluator(["a", "a"], [["p", "n"], ["n", "p"]], [[2.0, 1.0], [1.0, 2.0]])
    assert evaluator(StubMultiVectorModel(MODEL)) == {"kl_divergence": 0, "spearman": pytest.approx(1)}


def test_queries_without_an_order_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = MultiVectorDistillationEvaluator(["a", "a"], [["p", "n"], ["n", "o"]], [[2.0, 1.0], [1.0, 2.0]])
    assert evaluator(StubMultiVectorModel(MODEL))["spearman"] == pytest.approx(1)
    assert "1 of 2 queries" in caplog.text


def test_no_order_at_all_is_nan_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = MultiVectorDistillationEvaluator(["a", "a"], ["n", "o"], [1.0, 2.0])
    assert math.isnan(evaluator(StubMultiVectorModel(MODEL))["spearman"])
    assert "is undefined" in caplog.text


def test_scores_that_are_no_numbers_give_nan_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = StubMultiVectorModel({**MODEL, "n": torch.tensor([[math.nan, 0.0]])})
    evaluator = MultiVectorDistillationEvaluator(["a", "a"], [["p", "n"], ["p", "o"]], [[2.0, 1.0], [1.0, 2.0]])
    assert all(math.isnan(value) for value in evaluator(model).values())
    assert len(caplog.records) == 1
    assert "1 of 4 similarities" in caplog.text


def test_a_list_of_messages_is_one_document() -> None:
    message = [{"role": "user", "content": "a cat"}]
    assert not MultiVectorDistillationEvaluator(["a"], [message], [1.0]).nested_documents


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ((["a"], ["p", "n"], [1.0]), {}, "1 queries, 2 documents, 1 scores"),
        (([], [], []), {}, "nothing to evaluate"),
        ((["a", "a"], [["p", "n"], ["p"]], [[1.0, 2.0], [1.0, 2.0]]), {}, "1 to 2 documents"),
        ((["a"], [["p", "n"]], [1.0]), {}, r"scores of shape \(1,\) for 1 queries with 2 documents"),
        ((["a"], ["p"], [[1.0, 2.0]]), {}, r"takes \(Q,\) scores, not \(1, 2\)"),
        ((["a"], ["p"], [math.nan]), {}, "not finite"),
        ((["a"], ["p"], [1.0]), {"temperature": 0}, "temperature=0"),
        ((["a"], ["p"], [1.0]), {"student_temperature": math.inf}, "student_temperature=inf"),
        ((["a"], ["p"], [1.0]), {"similarity_fct": scoring.xtr_scores_pairwise}, "scores of XTR"),
        ((["a"], ["p"], [1.0]), {"similarity_fct": "cosine"}, "there is maxsim, meanmaxsim"),
    ],
)
def test_bad_input_is_refused_at_construction(given: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiVectorDistillationEvaluator(*given, **settings)


def test_a_function_that_does_not_score_pairs_is_told_so() -> None:
    evaluator = MultiVectorDistillationEvaluator(*NESTED, similarity_fct=lambda queries, documents: torch.zeros(3))
    with pytest.raises(ValueError, match=r"scores of shapes \[\(3,\)\]"):
        evaluator(tiny_multi_vector_model())
    with pytest.raises(TypeError, match="MultiVectorDistillationEvaluator does not fit SentenceTransformer"):
        evaluator.metric_names(tiny_model())
