"""Values of single queries, pairs and items: their mean is the metric."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bundled import BUILDERS, LABELS, MORE, PAIRS, RETRIEVAL, TEXTS, A, B, C
from support.models import StubModel, tiny_cross_encoder, tiny_model, tiny_multi_vector_model, tiny_sparse_model
from support.nano import make_nano_folder

from st_eval_callbacks import evaluators
from st_eval_callbacks.kernels.classification import best_thresholds
from st_eval_callbacks.kernels.correlation import spearman
from st_eval_callbacks.writers.per_query import ItemValues, item_files, items_path, read_items

FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]
EVERY: dict[str, tuple[Any, Any]] = {**{name: (tiny_model, build) for name, build in BUILDERS.items()}, **MORE}
NANO = {
    "NanoBEIREvaluator": tiny_model,
    "SparseNanoBEIREvaluator": tiny_sparse_model,
    "CrossEncoderNanoBEIREvaluator": tiny_cross_encoder,
    "MultiVectorNanoBEIREvaluator": tiny_multi_vector_model,
}
KEEP_NOTHING = {"ParaphraseMiningEvaluator"}
# Metrics that are no means, by what their keys end with.
NO_MEANS = {
    "EmbeddingSimilarityEvaluator": ("",),
    "BinaryClassificationEvaluator": ("_threshold", "_f1", "_precision", "_recall", "_ap", "_mcc"),
    "CrossEncoderCorrelationEvaluator": ("",),
    "CrossEncoderClassificationEvaluator": ("_threshold", "f1", "precision", "recall"),
}
OF_TEXTS = ("active_dims", "sparsity_ratio", "avg_flops")
RAW = {
    "EmbeddingSimilarityEvaluator": {"label", "_similarity"},
    "BinaryClassificationEvaluator": {"label", "_similarity"},
    "CrossEncoderCorrelationEvaluator": {"label", "score"},
    "CrossEncoderClassificationEvaluator": {"label", "score"},
}


def means(items: ItemValues) -> dict[str, float]:
    return {key: float(np.nanmean(values)) for key, values in items.values.items()}


def assert_means(items: ItemValues | None, result: dict[str, float], without: tuple[str, ...] = ()) -> None:
    """Every metric but those that end so is the mean of a column, and there are no others."""
    assert items is not None
    expected = {key: value for key, value in result.items() if not key.endswith(without) or not without}
    assert list(items.values) == [key for key in result if key in expected]
    assert means(items) == pytest.approx(expected, abs=1e-12)


def test_every_bundled_evaluator_is_checked_here() -> None:
    assert set(EVERY) | set(NANO) | {"Evaluator", "SequentialEvaluator"} == set(evaluators.__all__)


@pytest.mark.parametrize("name", EVERY)
def test_a_metric_is_the_mean_over_the_items_and_the_file_holds_them(name: str, tmp_path: Path) -> None:
    make_model, build = EVERY[name]
    model = make_model()
    evaluator = build(model, name="dev", **({} if name in KEEP_NOTHING else {"keep_per_query": True}))
    result = evaluator(model, str(tmp_path), 0.5, 6)
    if name in KEEP_NOTHING:
        assert evaluator.per_query is None
        return
    task = name.removeprefix("Sparse")
    assert_means(evaluator.per_query, result, (*NO_MEANS.get(task, ()), *OF_TEXTS))
    raw = {f"_{key.rpartition('_')[2]}" if "_" in key else key for key in evaluator.per_query.raw}
    assert raw == RAW.get(task, set())
    [[path]] = [list(files.values()) for files in item_files(tmp_path).values()]
    assert path == items_path(tmp_path, evaluator.csv_file, 0.5, 6)
    found = read_items(path)
    assert found.ids == [str(one) for one in evaluator.per_query.ids]
    for kept, of_file in ((evaluator.per_query.values, found.values), (evaluator.per_query.raw, found.raw)):
        assert list(kept) == list(of_file)
        np.testing.assert_array_equal(list(kept.values()), list(of_file.values()))


@pytest.mark.parametrize("name", EVERY)
def test_keeping_changes_no_metric_and_without_it_nothing_is_kept(name: str, tmp_path: Path) -> None:
    make_model, build = EVERY[name]
    model = make_model()
    evaluator = build(model, name="dev")
    before = evaluator(model, str(tmp_path), 0.5, 6)
    assert evaluator.per_query is None
    assert not (tmp_path / "per_query").exists()
    evaluator.keep_per_query = True
    assert evaluator(model) == before
    evaluator.keep_per_query = False
    assert evaluator(model) == before
    assert evaluator.per_query is None


@pytest.mark.parametrize("name", NANO)
def test_the_evaluator_of_each_dataset_of_nano_beir_keeps_its_queries(name: str, tmp_path: Path) -> None:
    root = make_nano_folder(tmp_path)
    (root / "bm25").mkdir()
    for split in ("NanoMSMARCO", "NanoNQ"):
        hits = [{"query-id": f"q{place}", "corpus-ids": [f"d{place}", "d9", "d11"]} for place in range(5, -1, -1)]
        (root / "bm25" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, hits)) + "\n")
    model = NANO[name]()
    nano = getattr(evaluators, name)(["msmarco", "nq"], str(root), keep_per_query=True)
    result = nano(model, str(tmp_path / "out"), 1.0, 2)
    assert nano.per_query is None
    assert len(item_files(tmp_path / "out")) == 2
    for one in nano.evaluators:
        assert_means(one.per_query, {key: result[key] for key in result if key.startswith(f"{one.name}_")}, OF_TEXTS)
        assert sorted(one.per_query.ids) == [f"q{place}" for place in range(6)]


# -- values -----------------------------------------------------------------------------------------------------------


def test_a_query_has_the_values_of_its_own_hits() -> None:
    model = StubModel({"q": [1, 0], "r": [0, 1], "a": [1, 0], "b": [0.5, 0.5], "c": [0.9, 0.1]})
    corpus = {one: one for one in "abc"}
    evaluator = evaluators.InformationRetrievalEvaluator(
        {7: "q", "é/r": "r", "none": "r"},
        corpus,
        {7: {"a"}, "é/r": {"c", "a"}},
        name="docs",
        score_functions={"dot": "dot"},
        keep_per_query=True,
    )
    evaluator(model)
    assert evaluator.per_query is not None
    assert evaluator.per_query.ids == [7, "é/r"]
    found = evaluator.per_query.values
    assert (found["docs_dot_accuracy@1"], found["docs_dot_mrr@10"]) == ([1, 0], [1, 0.5])
    assert found["docs_dot_recall@3"] == [1, 1]


def test_triplets_and_sentences_are_right_or_wrong() -> None:
    model = StubModel({"x": [1, 0], "y": [0, 1], "z": [1, 0.1]})
    triplets = evaluators.TripletEvaluator(["x", "x", "y"], ["z", "y", "y"], ["y", "z", "y"], keep_per_query=True)
    triplets(model)
    assert triplets.per_query == ItemValues([0, 1, 2], {"cosine_accuracy": [1, 0, 0]})
    translation = evaluators.TranslationEvaluator(["x", "y"], ["z", "x"], keep_per_query=True)
    translation(model)
    assert translation.per_query is not None
    assert translation.per_query.values == {
        "src2trg_accuracy": [0, 0],
        "trg2src_accuracy": [1, 0],
        "mean_accuracy": [0.5, 0],
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_accuracy_f1_and_correlation_can_be_made_anew_of_what_is_raw(function: str) -> None:
    model = tiny_model()
    names: Any = {"similarity_fn_names": FUNCTIONS, "keep_per_query": True}
    binary = evaluators.BinaryClassificationEvaluator(A, B, LABELS, **names)
    similar = evaluators.EmbeddingSimilarityEvaluator(A, B, range(15), **names)
    result = {**binary(model), **similar(model)}
    assert binary.per_query is not None
    assert similar.per_query is not None
    assert means(binary.per_query) == pytest.approx({key: result[key] for key in binary.per_query.values})
    assert set(binary.per_query.values) == {f"{name}_accuracy" for name in FUNCTIONS}
    scores, labels = (torch.tensor(binary.per_query.raw[key]) for key in (f"{function}_similarity", "label"))
    assert best_thresholds(scores, labels)["f1"] == result[f"{function}_f1"]
    scores, labels = (torch.tensor(similar.per_query.raw[key]) for key in (f"{function}_similarity", "label"))
    assert float(spearman(scores, labels)) == pytest.approx(result[f"spearman_{function}"])


def test_of_classes_the_share_of_right_ones_is_kept_and_what_was_predicted() -> None:
    model = tiny_cross_encoder(num_labels=3)
    labels = [place % 4 for place in range(15)]
    evaluator = evaluators.CrossEncoderClassificationEvaluator(PAIRS, labels, name="dev", keep_per_query=True)
    result = evaluator(model)
    items = evaluator.per_query
    assert items is not None
    assert means(items) == pytest.approx({"dev_f1_micro": result["dev_f1_micro"]})
    assert items.raw["label"] == labels
    right = [float(one == other) for one, other in zip(items.raw["prediction"], labels, strict=True)]
    assert items.values["dev_f1_micro"] == right


def test_languages_weigh_the_same_whatever_their_number_of_sentences() -> None:
    rows = [
        {"en": a, "de": b, "fr": c if place < 4 else ""} for place, (a, b, c) in enumerate(zip(A, B, C, strict=True))
    ]
    evaluator = evaluators.MSEEvaluatorFromDataFrame(
        rows, tiny_model(seed=3), [("en", "de"), ("en", "fr")], keep_per_query=True
    )
    result = evaluator(tiny_model())
    assert_means(evaluator.per_query, result)
    assert evaluator.per_query is not None
    assert evaluator.per_query.ids[14:16] == ["en-de 14", "en-fr 0"]
    assert len(evaluator.per_query.ids) == 19


def test_a_sample_is_named_by_its_id_its_key_or_its_place_among_all_that_were_given() -> None:
    samples: list[dict[str, Any]] = [{"query": a, "positive": [b], "negative": C[:3]} for a, b in PAIRS[:4]]
    samples[1]["positive"] = []
    samples[2]["query_id"] = "own"
    for given, ids in ((samples, [0, "own", 3]), (dict(zip("abcd", samples, strict=True)), ["a", "own", "d"])):
        evaluator = evaluators.RerankingEvaluator(given, measures=["precision@2"], keep_per_query=True)
        assert_means(evaluator.per_query if evaluator(tiny_model()) else None, evaluator(tiny_model()))
        assert evaluator.per_query is not None
        assert evaluator.per_query.ids == ids


def test_a_sample_without_a_list_has_no_value_of_the_given_order_and_one_that_found_nothing_has_0() -> None:
    make_model, build = MORE["CrossEncoderRerankingEvaluator"]
    model = make_model()
    evaluator = build(model, keep_per_query=True)
    evaluator(model)
    base = evaluator.per_query.values["base_map"]
    assert (base[0], evaluator.per_query.values["map"][0]) == (0, 0)
    assert math.isnan(base[-1])
    assert not any(math.isnan(one) for one in base[:-1] + evaluator.per_query.values["map"])


def test_one_document_a_query_keeps_the_scores_of_both() -> None:
    evaluator = evaluators.MultiVectorDistillationEvaluator(A, B, list(range(15)), keep_per_query=True)
    result = evaluator(tiny_multi_vector_model())
    items = evaluator.per_query
    assert items is not None
    assert items.values == {}
    assert items.raw["label"] == list(range(15))
    assert np.corrcoef(*(np.argsort(np.argsort(one)) for one in items.raw.values()))[0, 1] == pytest.approx(
        result["spearman"]
    )


def test_where_a_loader_shuffles_nothing_is_kept() -> None:
    model = tiny_model()
    evaluator = BUILDERS["LabelAccuracyEvaluator"](model, keep_per_query=True)
    evaluator.dataloader = torch.utils.data.DataLoader(evaluator.dataloader.dataset, batch_size=4, shuffle=True)
    evaluator(model)
    assert evaluator.per_query is None


# -- what is undefined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BUILDERS.keys() - KEEP_NOTHING - {"LabelAccuracyEvaluator"}))
def test_where_a_metric_is_undefined_so_are_the_values_of_all_items(name: str) -> None:
    vectors: dict[str, Any] = {text: [place, 1.0] + [0.5] * 14 for place, text in enumerate(TEXTS)}
    evaluator = BUILDERS[name](tiny_model(), keep_per_query=True)
    vectors[B[3]][0] = math.nan
    result = evaluator(StubModel(vectors))
    items = evaluator.per_query
    assert items is not None
    assert all(math.isnan(result[key]) for key in items.values)
    assert all(math.isnan(one) for values in items.values.values() for one in values)
    assert [sum(map(math.isnan, values)) for key, values in items.raw.items() if key != "label"] == [1] * bool(
        items.raw
    )


def test_a_call_that_fails_leaves_nothing_of_the_one_before() -> None:
    evaluator = evaluators.InformationRetrievalEvaluator(*RETRIEVAL, keep_per_query=True)
    evaluator(tiny_model())
    assert evaluator.per_query is not None
    with pytest.raises(KeyError):
        evaluator(StubModel({"other": [1.0]}))
    assert evaluator.per_query is None
