"""Reranking by a cross-encoder: the peer's values, ties, missed documents, and NanoBEIR from a local folder."""

from __future__ import annotations

import json
import math
import random
import uuid
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.cross_encoder import evaluation as peer
from support.models import StubCrossEncoder, tiny_cross_encoder
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import CrossEncoderNanoBEIREvaluator, CrossEncoderRerankingEvaluator


def reranking_samples(layout: str, num: int = 25, num_documents: int = 12) -> list[dict[str, Any]]:
    """Ragged lists of distinct texts; in "documents" some positives are missing."""
    chooser = random.Random(3)
    pool = list(dict.fromkeys(sentences(80, 4)))
    samples = []
    for query in sentences(num, 5):
        chosen = chooser.sample(pool, num_documents)
        positive, others = chosen[: chooser.randint(1, 3)], chosen[3 : chooser.randint(5, num_documents)]
        if layout == "negative":
            samples.append({"query": query, "positive": positive, "negative": others})
        else:
            documents = [*positive[: None if layout == "documents" else chooser.randint(0, 3)], *others]
            chooser.shuffle(documents)
            samples.append({"query": query, "positive": positive, "documents": documents})
    return samples


def of_scores(scores: dict[str, float]) -> StubCrossEncoder:
    return StubCrossEncoder({("q", document): score for document, score in scores.items()})


# -- the peer's values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "settings"),
    [
        ("negative", {}),
        ("negative", {"name": "dev", "at_k": 3, "batch_size": 5}),
        ("documents", {}),
        ("documents", {"name": "dev", "at_k": 1, "always_rerank_positives": False}),
        ("documents", {"at_k": 4, "prompt_name": "query"}),
        ("missing", {}),
        ("missing", {"name": "dev", "at_k": 2}),
    ],
)
@pytest.mark.parametrize("as_dict", [False, True])
def test_it_is_equal_to_the_peer(
    layout: str, settings: dict[str, Any], as_dict: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = reranking_samples(layout)
    given: Any = {f"q{number}": sample for number, sample in enumerate(samples)} if as_dict else samples
    kinds = (CrossEncoderRerankingEvaluator, peer.CrossEncoderRerankingEvaluator)
    ours, theirs = (kind(given, **settings) for kind in kinds)
    model = tiny_cross_encoder(prompts={"query": "find : "})
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)
    shown, expected = (model.model_card_data.eval_results_dict[one] for one in (ours, theirs))
    assert list(shown) == list(expected)
    if layout != "negative":
        assert all(isinstance(value, str) for value in shown.values())
        digits = [
            [float(part.strip("()")) for value in one.values() for part in value.split()] for one in (shown, expected)
        ]
        assert digits[0] == pytest.approx(digits[1], abs=1.1e-4)


def test_lists_of_both_layouts_are_equal_to_the_peer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = [*reranking_samples("missing", 6), *reranking_samples("negative", 5)]
    kinds = (CrossEncoderRerankingEvaluator, peer.CrossEncoderRerankingEvaluator)
    ours, theirs = (kind(samples) for kind in kinds)
    assert_equal_to_peer(ours, theirs, tiny_cross_encoder(), tmp_path, caplog)


def test_samples_in_which_nothing_is_relevant_count_as_0_and_are_counted_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [*reranking_samples("negative", 5), {"query": "cat", "positive": [], "negative": ["dog", "bird"]}]
    ours = CrossEncoderRerankingEvaluator(samples, name="dev")
    assert [record.getMessage() for record in caplog.records] == [
        "CrossEncoderRerankingEvaluator('dev'): in 1 of 6 samples no document to rank is relevant; they count as 0."
    ]
    theirs = peer.CrossEncoderRerankingEvaluator(samples, name="dev")
    assert_equal_to_peer(ours, theirs, tiny_cross_encoder(), tmp_path, caplog)


def test_a_sample_without_another_document_is_right_in_any_order_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    samples = [
        {"query": "q", "positive": ["p"], "negative": []},
        {"query": "q", "positive": ["p"], "negative": ["n"]},
    ]
    evaluator = CrossEncoderRerankingEvaluator(samples)
    assert [record.getMessage() for record in caplog.records] == [
        "CrossEncoderRerankingEvaluator: in 1 of 2 samples all documents are relevant, so that any order of them is "
        "right."
    ]
    assert evaluator(of_scores({"p": 0.4, "n": 0.1})) == {"map": 1, "mrr@10": 1, "ndcg@10": 1}


# -- missed documents -------------------------------------------------------------------------------------------------


def test_a_missed_positive_counts_behind_the_last_document() -> None:
    sample = {"query": "q", "positive": ["p1", "p2"], "documents": ["p1", "n1", "n2"]}
    model = of_scores({"p1": 0.9, "n1": 0.8, "n2": 0.1, "p2": 0.05})
    ours = CrossEncoderRerankingEvaluator([sample], always_rerank_positives=False)(model)
    assert model.predicted == [("q", document) for document in ("p1", "n1", "n2")]
    assert [ours[key] for key in ("map", "mrr@10", "ndcg@10")] == pytest.approx([0.75, 1, 0.8772], abs=5e-5)
    assert [ours[f"base_{key}"] for key in ("map", "mrr@10", "ndcg@10")] == pytest.approx([0.75, 1, 0.8772], abs=5e-5)
    theirs = peer.CrossEncoderRerankingEvaluator([sample], always_rerank_positives=False)(model)
    assert theirs["map"] == theirs["ndcg@10"] == 1


@pytest.mark.parametrize("order", [*permutations(range(5))])
def test_a_model_that_keeps_the_given_order_has_the_base_values(order: tuple[int, ...]) -> None:
    documents = [["p1", "p2", "n1", "n2", "n3"][place] for place in order]
    sample = {"query": "q", "positive": ["p1", "p2", "p3", "p4"], "documents": documents}
    model = of_scores({document: -float(place) - 1e6 for place, document in enumerate(documents)})
    result = CrossEncoderRerankingEvaluator([sample], at_k=6, always_rerank_positives=False)(model)
    for key in ("map", "mrr@6", "ndcg@6"):
        assert result[key] == pytest.approx(result[f"base_{key}"], abs=1e-12)


def test_a_list_without_any_of_the_positives_counts_as_0_unless_they_are_always_reranked() -> None:
    samples = [
        {"query": "q", "positive": ["p"], "documents": ["n", "m"]},
        {"query": "q", "positive": ["p"], "documents": ["p", "n"]},
    ]
    model = of_scores({"p": 0.9, "n": 0.5, "m": 0.1})
    assert CrossEncoderRerankingEvaluator(samples, always_rerank_positives=False)(model)["map"] == 0.5
    result = CrossEncoderRerankingEvaluator(samples)(model)
    assert (result["map"], result["base_map"]) == (1, 0.5)


# -- ties, NaN, collapse ----------------------------------------------------------------------------------------------


def test_one_score_for_all_documents_gives_the_values_of_a_random_order(caplog: pytest.LogCaptureFixture) -> None:
    sample = {"query": "q", "positive": ["p"], "negative": ["a", "b", "c"]}
    result = CrossEncoderRerankingEvaluator([sample])(of_scores(dict.fromkeys("pabc", 0.5)))
    assert result == pytest.approx({"map": 0.25, "mrr@10": 0.5208, "ndcg@10": 0.6404}, abs=5e-5)
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " all documents have the same score for 1 of 1 queries"
    ]


def test_no_metric_depends_on_the_order_of_tied_documents() -> None:
    model = of_scores({"p": 0.5, "r": 0.3, "a": 0.5, "b": 0.3, "c": 0.9})
    results = [
        CrossEncoderRerankingEvaluator(
            [{"query": "q", "positive": list(positive), "negative": list(negative)}], at_k=3
        )(model)
        for negative in permutations("abc")
        for positive in permutations("pr")
    ]
    assert all(result == pytest.approx(results[0], abs=1e-15) for result in results)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_makes_the_metrics_nan_but_not_those_of_the_given_order(
    bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    sample = {"query": "q", "positive": ["p"], "documents": ["n", "p"]}
    result = CrossEncoderRerankingEvaluator([sample], name="dev")(of_scores({"p": 1.0, "n": bad}))
    assert [key for key, value in result.items() if math.isnan(value)] == ["dev_map", "dev_mrr@10", "dev_ndcg@10"]
    assert result["dev_base_map"] == 0.5
    assert len(caplog.records) == 1
    assert "CrossEncoderRerankingEvaluator('dev'): 1 of 2 predictions" in caplog.text


# -- what is given ----------------------------------------------------------------------------------------------------


def test_a_single_document_stands_for_a_list_of_one_and_a_missing_column_may_be_none() -> None:
    sample = {"query": "q", "positive": "p", "negative": None, "documents": ["n", "p"]}
    assert CrossEncoderRerankingEvaluator([sample])(of_scores({"p": 0.4, "n": 0.1}))["map"] == 1


def test_the_deprecated_cutoff_works_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = CrossEncoderRerankingEvaluator(reranking_samples("negative", 2), mrr_at_k=3)
    assert (evaluator.at_k, evaluator.primary_metric) == (3, "ndcg@3")
    assert "mrr_at_k is deprecated, use at_k=3" in caplog.text


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([], {}, "none of 0 samples"),
        ([{"query": "q", "positive": [], "negative": ["n"]}], {}, "none of 1 samples"),
        ([{"positive": ["p"], "negative": ["n"]}], {}, "sample 0 has no 'query'"),
        ([{"query": "q", "negative": ["n"]}], {}, "sample 0 has no 'positive'"),
        ([{"query": "q", "positive": ["p"]}], {}, "sample 0 has neither of 'negative' and 'documents'"),
        ([{"query": "q", "positive": ["p"], "negative": [], "documents": []}], {}, "sample 0 has both"),
        (None, {"at_k": 0}, "at_k=0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_construction(samples: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderRerankingEvaluator(reranking_samples("negative", 2) if samples is None else samples, **settings)


def test_each_pair_is_predicted_once() -> None:
    samples = [{"query": "q", "positive": ["p"], "negative": ["n", "m"]}] * 3
    model = of_scores({"p": 0.4, "n": 0.1, "m": 0.2})
    CrossEncoderRerankingEvaluator(samples)(model)
    assert sorted(model.predicted) == sorted({("q", document) for document in "pnm"})


# -- NanoBEIR ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tiny data sets with the subsets corpus, queries, qrels and bm25."""
    # A name of its own: `datasets` may serve a folder of the same name from an earlier run's cache.
    root = tmp_path / f"nano-{uuid.uuid4().hex}"
    lines = ["---", "configs:"]
    for subset in ("corpus", "queries", "qrels", "bm25"):
        (root / subset).mkdir(parents=True)
        lines += [f"- config_name: {subset}", "  data_files:"]
        for split in ("NanoMSMARCO", "NanoNQ"):
            lines += [f"  - split: {split}", f"    path: {subset}/{split}.jsonl"]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]))
    for number, split in enumerate(("NanoMSMARCO", "NanoNQ")):
        chooser = random.Random(number)
        texts = list(dict.fromkeys(sentences(50, 50 + number)))
        corpus = texts[6:]
        rows: dict[str, list[dict[str, Any]]] = {
            "queries": [{"_id": f"q{i}", "text": text} for i, text in enumerate(texts[:6])],
            "corpus": [{"_id": f"d{i}", "text": text} for i, text in enumerate(corpus)],
            "qrels": [
                {"query-id": f"q{i}", "corpus-id": f"d{chooser.randrange(len(corpus))}"}
                for i in range(6)
                for _ in "ab"
            ],
            "bm25": [
                {"query-id": f"q{i}", "corpus-ids": [f"d{j}" for j in chooser.sample(range(len(corpus)), 30)]}
                for i in range(6)
            ],
        }
        for subset, found in rows.items():
            (root / subset / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in found) + "\n")
    return root


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset_names": ["msmarco", "nq"]},
        {"dataset_names": ["msmarco", "nq"], "aggregate_key": "worst", "aggregate_fn": min, "rerank_k": 20, "at_k": 3},
        {"dataset_names": ["nq"], "prompt_name": "query", "batch_size": 7},
    ],
)
def test_nano_beir_is_equal_to_the_peer(
    settings: dict[str, Any], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = (CrossEncoderNanoBEIREvaluator, peer.CrossEncoderNanoBEIREvaluator)
    ours, theirs = (kind(dataset_id=str(folder), **settings) for kind in kinds)
    model = tiny_cross_encoder(prompts={"query": "find : "})
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)
    shown, expected = (model.model_card_data.eval_results_dict[one] for one in (ours, theirs))
    assert list(shown) == list(expected)
    assert [one.name for one in ours.evaluators] == [one.name for one in theirs.evaluators]


def test_nano_beir_leaves_the_two_other_tasks_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "st_eval_callbacks.evaluators.cross_encoder_nano_beir._samples"
    monkeypatch.setattr(module, lambda *args: reranking_samples("documents", 2))
    evaluator = CrossEncoderNanoBEIREvaluator()
    assert len(evaluator.evaluators) == 11
    assert not {"arguana", "touche2020"} & set(evaluator.dataset_names)
    assert evaluator.primary_metric == "NanoBEIR_R100_mean_ndcg@10"


def test_a_hit_that_is_not_in_the_corpus_is_named(folder: Path) -> None:
    path = folder / "bm25" / "NanoNQ.jsonl"
    path.write_text(json.dumps({"query-id": "q0", "corpus-ids": ["d1", "gone"]}) + "\n")
    with pytest.raises(ValueError, match="NanoNQ.* names a document 'gone' that it does not have"):
        CrossEncoderNanoBEIREvaluator(["nq"], dataset_id=str(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset_names": ["msmarko"]}, "msmarco"),
        ({"dataset_names": []}, "cannot be empty"),
        ({"rerank_k": 0}, "rerank_k=0"),
    ],
)
def test_what_nano_beir_cannot_load_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderNanoBEIREvaluator(**settings)
