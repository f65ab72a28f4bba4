"""Sparse models in the tasks: one encoding, NaN, ties, empty rows, chunks, and what makes no sense for them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder import evaluation as peer
from support.bundled import BUILDERS
from support.loop import make_trainer
from support.models import ModelCardStub, tiny_model, tiny_sparse_model
from support.parity import assert_equal_to_peer, read_csv, sentences

from st_eval_callbacks import EvaluatorCallback, evaluators
from st_eval_callbacks.encoding import session

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled"),
]

NAN = float("nan")
TEXTS = list(dict.fromkeys(sentences(70, 41)))
A, B, C = TEXTS[:15], TEXTS[15:30], TEXTS[30:45]
LABELS = [number % 2 for number in range(15)]
SAMPLES = [{"query": a, "positive": [b], "negative": C[:4]} for a, b in zip(A, B, strict=True)]
RETRIEVAL = (dict(enumerate(A)), dict(enumerate(B)), {number: {14 - number} for number in range(15)})


class SparseStub(SparseEncoder):
    """Texts map to the vectors given."""

    def __init__(self, vectors: dict[str, list[float]], similarity_fn_name: str = "dot") -> None:
        torch.nn.Module.__init__(self)
        self.vectors = vectors
        self.similarity_fn_name = similarity_fn_name
        self.__dict__["model_card_data"] = ModelCardStub()
        self.encoded: list[str] = []

    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        """Look the inputs up."""
        self.encoded += inputs
        return torch.tensor([self.vectors[text] for text in inputs]).to_sparse()

    encode_query = encode
    encode_document = encode


def every(name: str = "", **settings: Any) -> list[Any]:
    """One evaluator a task, under names of its own."""
    teacher = tiny_sparse_model(seed=3)
    return [
        evaluators.SparseBinaryClassificationEvaluator(A, B, LABELS, name=f"binary{name}", **settings),
        evaluators.SparseEmbeddingSimilarityEvaluator(A, B, LABELS, name=f"sts{name}", **settings),
        evaluators.SparseTripletEvaluator(A, B, C, name=f"triplet{name}", **settings),
        evaluators.SparseRerankingEvaluator(SAMPLES, name=f"reranking{name}", **settings),
        evaluators.SparseTranslationEvaluator(A, B, name=f"translation{name}", **settings),
        evaluators.SparseMSEEvaluator(A, B, teacher, name=f"mse{name}", **settings),
        evaluators.SparseInformationRetrievalEvaluator(*RETRIEVAL, name=f"ir{name}", **settings),
    ]


def test_texts_are_encoded_once_for_all_evaluators_and_their_sparsity() -> None:
    model = tiny_sparse_model()
    with session() as one:
        together = evaluators.SequentialEvaluator(every())(model)
        # As queries, as documents and as neither; the teacher's own were encoded at construction.
        assert one.num_encoded == len({*A}) + len({*B, *C}) + len({*A, *B})
    alone = {key: value for evaluator in every() for key, value in evaluator(model).items()}
    # Batches differ, so embeddings do in their last digits.
    assert {key: together[key] for key in alone} == pytest.approx(alone, abs=1e-5)


def test_the_tasks_measure_sparse_models_under_their_own_names_too() -> None:
    model, teacher = tiny_sparse_model(), tiny_sparse_model(seed=3)
    plain = {
        "binary": evaluators.BinaryClassificationEvaluator(A, B, LABELS, name="binary"),
        "sts": evaluators.EmbeddingSimilarityEvaluator(A, B, LABELS, name="sts"),
        "triplet": evaluators.TripletEvaluator(A, B, C, name="triplet"),
        "reranking": evaluators.RerankingEvaluator(SAMPLES, name="reranking"),
        "translation": evaluators.TranslationEvaluator(A, B, name="translation"),
        "mse": evaluators.MSEEvaluator(A, B, teacher, name="mse"),
        "ir": evaluators.InformationRetrievalEvaluator(*RETRIEVAL, name="ir"),
    }
    for sparse in every():
        found, wanted = plain[sparse.name](model), sparse(model)
        added = [sparse._named(key) for key in sparse.sparsity_keys]
        assert list(found) == [key for key in wanted if key not in added]
        assert found == {key: wanted[key] for key in found}
        assert not set(added) & set(found)


@pytest.mark.parametrize("place", range(7))
def test_two_calls_are_equal_and_write_two_rows_under_one_header(place: int, tmp_path: Path) -> None:
    model, evaluator = tiny_sparse_model(), every()[place]
    named = evaluator.metric_names(model)
    first, second = (evaluator(model, str(tmp_path), 1, step) for step in (2, 4))
    assert first == second
    assert list(first) == named
    header, *rows = read_csv(tmp_path, evaluator)
    assert len(rows) == 2
    assert {len(row) for row in rows} == {len(header)}
    assert model.model_card_data.eval_results_dict[evaluator] == first


def test_metrics_do_not_depend_on_the_chunk_size_even_with_ties() -> None:
    vectors = {f"d{number}": [float(number % 3), 1.0, 0.0] for number in range(11)} | {"q": [1.0, 0.0, 2.0]}
    corpus = {text: text for text in vectors if text != "q"}
    for ties in ("id", "expected"):
        results = [
            evaluators.SparseInformationRetrievalEvaluator(
                {"q": "q"}, corpus, {"q": {"d4", "d7", "d8"}}, corpus_chunk_size=size, ties=ties, ndcg_at_k=[3, 10]
            )(SparseStub(vectors))
            for size in (1, 2, 3, 50)
        ]
        assert all(result == results[0] for result in results)


def test_rows_without_components_are_told_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    model = SparseStub({"q": [0.0, 0.0], "d1": [0.0, 0.0], "d2": [0.0, 3.0]})
    evaluator = evaluators.SparseInformationRetrievalEvaluator({"q": "q"}, {"d1": "d1", "d2": "d2"}, {"q": {"d2"}})
    result = evaluator(model)
    assert (result["dot_mrr@10"], result["query_active_dims"], result["query_sparsity_ratio"]) == (0.5, 0, 1)
    assert (result["corpus_active_dims"], result["avg_flops"]) == (0.5, 0)
    assert "collapsed" in caplog.text


def test_embeddings_that_are_no_numbers_give_nan_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["q", "a", "b", "c"]
    model = SparseStub({text: [NAN, 0.0, 1.0] for text in texts})
    corpus = {text: text for text in texts[1:]}
    cases: list[Any] = [
        evaluators.SparseInformationRetrievalEvaluator({"q": "q"}, corpus, {"q": {"a"}}),
        evaluators.SparseEmbeddingSimilarityEvaluator(["q", "a"], ["b", "c"], [0.0, 1.0]),
        evaluators.SparseTripletEvaluator(["q"], ["a"], ["b"]),
        evaluators.SparseRerankingEvaluator([{"query": "q", "positive": ["a"], "negative": ["b"]}]),
        evaluators.SparseTranslationEvaluator(["q", "a"], ["b", "c"]),
        evaluators.SparseMSEEvaluator(["q"], ["a"], model),
    ]
    for evaluator in cases:
        caplog.clear()
        result = evaluator(model)
        assert math.isnan(result[evaluator.primary_metric])
        assert len(caplog.records) == 1
        assert "not finite" in caplog.text
        # How many components there are is known all the same.
        assert all(
            result[key] == pytest.approx(2 if "active" in key else 1 / 3) for key in evaluator.sparsity_keys[:2]
        )


def test_reranking_does_not_depend_on_the_order_of_tied_documents() -> None:
    one = [0.0, 1.0, 2.0]
    model = SparseStub(dict.fromkeys(["q", "p", "n1", "n2", "n3"], one))
    sample = {"query": "q", "positive": ["p"], "negative": ["n1", "n2", "n3"]}
    assert evaluators.SparseRerankingEvaluator([sample])(model)["mrr@10"] == pytest.approx(0.5208, abs=5e-5)


def test_wrong_matches_are_printed_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "x": [0.0, 2.0], "y": [0.0, 3.0]}
    evaluators.SparseTranslationEvaluator(["a", "b"], ["x", "y"], print_wrong_matches=True)(SparseStub(vectors))
    assert "source 1 finds target 0, not 1" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ParaphraseMiningEvaluator", "LabelAccuracyEvaluator", "MSEEvaluatorFromDataFrame"])
def test_tasks_that_make_no_sense_for_sparse_models_are_refused_before_training(kind: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(BUILDERS[kind](tiny_model()))], "sparse")
    with pytest.raises(TypeError, match=f"{kind} does not fit SparseEncoder \\(a sparse model\\)"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_what_is_for_dense_or_sparse_models_alone_is_refused_by_name() -> None:
    dense, sparse = tiny_model(), tiny_sparse_model()
    quantised = evaluators.EmbeddingSimilarityEvaluator(A, B, LABELS, precision="int8")
    with pytest.raises(TypeError, match="precision='int8' is for dense embeddings, and SparseEncoder"):
        quantised.metric_names(sparse)
    with pytest.raises(TypeError, match="SparseEncoder is a sparse model, and the teacher a dense one"):
        evaluators.MSEEvaluator(A, B, dense).metric_names(sparse)
    with pytest.raises(TypeError, match="SparseMSEEvaluator does not fit SentenceTransformer"):
        evaluators.SparseMSEEvaluator(A, B, dense)
    for evaluator in every():
        with pytest.raises(TypeError, match="does not fit SentenceTransformer"):
            evaluator.metric_names(dense)
    for build in (evaluators.SparseTranslationEvaluator, peer.SparseTranslationEvaluator):
        with pytest.raises(TypeError, match="truncate_dim"):
            build(A, B, truncate_dim=3)
    with pytest.raises(ValueError, match="max_active_dims=0"):
        evaluators.SparseTranslationEvaluator(A, B, max_active_dims=0)


def test_the_teachers_embeddings_can_be_read() -> None:
    teacher = tiny_sparse_model(seed=3)
    found = evaluators.SparseMSEEvaluator(A, B, teacher).source_embeddings
    wanted = teacher.encode(A, convert_to_sparse_tensor=False)
    torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)


def test_all_run_together_in_training_and_the_best_is_loaded(tmp_path: Path) -> None:
    callback = EvaluatorCallback(every(), every=4, primary="ir_dot_ndcg@10", load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], "sparse", save_strategy="steps", save_steps=4)
    trainer.train()
    assert [record.step for record in callback.history] == [4, 8]
    best = callback.history.best("ir_dot_ndcg@10")
    assert best is not None
    assert trainer.state.best_global_step == best.step
    found = {key: value for evaluator in every() for key, value in evaluator(trainer.model).items()}
    assert {key: best.metrics[key] for key in found} == pytest.approx(found, abs=1e-5)
    assert len(list((tmp_path / "eval").glob("*.csv"))) == len(every())


# -- reciprocal rank fusion -------------------------------------------------------------------------------------------


def rankings(num: int = 20) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two rankings for each query, some of which miss all or some of what is relevant."""
    chooser = random.Random(0)
    each: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for number in range(num):
        known = [f"d{place}" for place in range(12)]
        positive: Any = chooser.sample([*known, "gone"], chooser.randint(1, 4))
        positive = positive[0] if number == 3 else positive
        for samples in each:
            documents = chooser.sample(known, chooser.randint(2, 9))
            samples.append({"query_id": number, "query": f"q{number}", "positive": positive, "documents": documents})
    return each


@pytest.mark.parametrize("settings", [{}, {"at_k": 2, "rrf_k": 5, "write_predictions": True}])
def test_fusion_is_equal_to_the_peer(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = (evaluators.ReciprocalRankFusionEvaluator, peer.ReciprocalRankFusionEvaluator)
    ours, theirs = (kind(*rankings(), **settings) for kind in kinds)

    class Called:
        """The peer takes no model."""

        def __getattr__(self, name: str) -> Any:
            return getattr(theirs, name)

        def __call__(self, model: Any, *arguments: Any) -> dict[str, float]:
            return {key: float(value) for key, value in theirs(*arguments).items()}

    said = [f"Wrote fused ranking predictions to {tmp_path / side / ours.predictions_file}" for side in ("ours",)]
    theirs_said = f"Wrote fused ranking predictions to {tmp_path / 'theirs' / ours.predictions_file}"
    caplog.handler.addFilter(lambda record: record.getMessage() != theirs_said)
    assert_equal_to_peer(ours, Called(), None, tmp_path, caplog, more_lines=said)
    files = [tmp_path / side / ours.predictions_file for side in ("ours", "theirs")]
    if "write_predictions" in settings:
        first, second = ([json.loads(line) for line in path.read_text().splitlines()] for path in files)
        assert first == second
    else:
        assert not any(path.exists() for path in files)


def test_fusion_takes_a_path_a_model_or_neither_and_runs_in_training(tmp_path: Path) -> None:
    fusion = evaluators.ReciprocalRankFusionEvaluator(*rankings(), name="rrf")
    result = fusion()
    assert fusion(str(tmp_path)) == fusion(tiny_sparse_model(), str(tmp_path)) == result
    assert len(read_csv(tmp_path, fusion)) == 3
    assert list(result) == fusion.metric_names()
    assert fusion.primary_metric == "rrf_ndcg@10"
    callback = EvaluatorCallback([fusion, every()[0]], every=4)
    make_trainer(tmp_path, [callback], "sparse").train()
    assert [record.metrics["rrf_ndcg@10"] for record in callback.history] == [result["rrf_ndcg@10"]] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one, other: other.pop(), "20 dense samples and 19 sparse samples"),
        (lambda one, other: one[4].pop("query_id"), "sample 4 has no 'query_id'"),
        (lambda one, other: other[2].update(query_id=9), "sample 2 is of query 2 here and of 9 there"),
        (lambda one, other: (one.clear(), other.clear()), "there are no samples"),
    ],
)
def test_rankings_that_do_not_fit_together_are_refused(change: Any, said: str) -> None:
    one, other = rankings()
    change(one, other)
    with pytest.raises(ValueError, match=said):
        evaluators.ReciprocalRankFusionEvaluator(one, other)
