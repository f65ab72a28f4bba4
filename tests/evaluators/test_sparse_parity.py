"""Every evaluator of sparse models beside the peer's of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import util
from sentence_transformers.sparse_encoder import evaluation as peer
from support.models import tiny_sparse_model
from support.nano import make_nano_folder
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks import evaluators

# Of the peer's own sparse tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled"),
]

FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]
TEXTS = sentences(90, 21)
A, B, C = TEXTS[:30], TEXTS[30:60], TEXTS[60:]
LABELS = [number % 2 for number in range(30)]
SCORES = [(number * 7 % 30) / 30 for number in range(30)]
DISTINCT = list(dict.fromkeys(sentences(120, 22)))
QUERIES = {f"q{number}": text for number, text in enumerate(DISTINCT[:9])}
CORPUS = {f"d{number}": text for number, text in enumerate(DISTINCT[9:70])}
RELEVANT = {f"q{number}": {f"d{number}", f"d{number * 5}"} for number in range(9)}
SAMPLES = [
    {"query": A[number], "positive": B[number : number + 1 + number % 2], "negative": DISTINCT[number : number + 5]}
    for number in range(0, 28)
]
MODELS: dict[str, Callable[[], Any]] = {
    "plain": tiny_sparse_model,
    "prompted": lambda: tiny_sparse_model(
        prompts={"query": "find : ", "document": "passage : "}, similarity_fn_name="cosine"
    ),
    "limited": lambda: tiny_sparse_model(max_active_dims=9),
}


def doubled(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Twice the product of two sparse tensors, as a function of a user."""
    return 2 * torch.mm(queries, documents.t()).to_dense()


def halves(query: torch.Tensor, documents: list[torch.Tensor]) -> torch.Tensor:
    """Half of the product with each of a list of sparse vectors."""
    return util.dot_score(query, torch.stack(documents)) / 2


CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("SparseBinaryClassificationEvaluator", (A, B, LABELS), {}),
    ("SparseBinaryClassificationEvaluator", (A, B, LABELS), {"name": "dev", "similarity_fn_names": FUNCTIONS}),
    ("SparseBinaryClassificationEvaluator", (A, B, LABELS), {"max_active_dims": 6}),
    ("SparseEmbeddingSimilarityEvaluator", (A, B, SCORES), {}),
    ("SparseEmbeddingSimilarityEvaluator", (A, B, SCORES), {"name": "dev", "similarity_fn_names": FUNCTIONS}),
    ("SparseEmbeddingSimilarityEvaluator", (A, B, SCORES), {"main_similarity": "euclidean", "max_active_dims": 4}),
    ("SparseTripletEvaluator", (A, B, C), {}),
    ("SparseTripletEvaluator", (A, B, C), {"name": "dev", "similarity_fn_names": FUNCTIONS, "margin": 0.01}),
    ("SparseTripletEvaluator", (A, B, C), {"main_similarity_function": "manhattan", "max_active_dims": 5}),
    ("SparseInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {}),
    (
        "SparseInformationRetrievalEvaluator",
        (QUERIES, CORPUS, RELEVANT),
        {"name": "dev", "corpus_chunk_size": 7, "max_active_dims": 12, "ndcg_at_k": [3, 10], "batch_size": 4},
    ),
    (
        "SparseInformationRetrievalEvaluator",
        (QUERIES, CORPUS, RELEVANT),
        {
            "score_functions": {
                "cosine": util.cos_sim,
                "dot": util.dot_score,
                "euclidean": util.euclidean_sim,
                "manhattan": util.manhattan_sim,
                "mine": doubled,
            }
        },
    ),
    ("SparseInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {"query_prompt": "query : "}),
    ("SparseRerankingEvaluator", (SAMPLES,), {}),
    ("SparseRerankingEvaluator", (SAMPLES,), {"name": "dev", "at_k": 3, "max_active_dims": 20}),
    ("SparseRerankingEvaluator", (SAMPLES,), {"similarity_fct": util.dot_score, "use_batched_encoding": False}),
    ("SparseRerankingEvaluator", (SAMPLES,), {"similarity_fct": halves}),
    ("SparseTranslationEvaluator", (A, B), {}),
    ("SparseTranslationEvaluator", (A, B), {"name": "dev", "max_active_dims": 3}),
    ("SparseMSEEvaluator", (A, B), {"teacher_model": tiny_sparse_model(seed=4)}),
    ("SparseMSEEvaluator", (A, B), {"teacher_model": tiny_sparse_model(seed=4), "max_active_dims": 6, "name": "dev"}),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("kind", "data", "settings"), CASES, ids=[f"{n}-{kind}" for n, (kind, _, _) in enumerate(CASES)]
)
def test_it_is_equal_to_the_peer(
    kind: str,
    data: tuple[Any, ...],
    settings: dict[str, Any],
    model: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = (getattr(module, kind)(*data, **settings) for module in (evaluators, peer))
    without = [f"{name}max_{end}_threshold" for name in ("", "dev_") for end in ("accuracy", "f1")]
    # What the peer says once a process.
    util.manhattan_sim(torch.eye(2).to_sparse(), torch.eye(2).to_sparse())
    assert_equal_to_peer(ours, theirs, MODELS[model](), tmp_path, caplog, without=without)


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset_names": ["msmarco", "nq"]},
        {"dataset_names": ["msmarco", "nq"], "max_active_dims": 8, "aggregate_key": "worst", "aggregate_fn": min},
        {"dataset_names": ["nq"], "query_prompts": "query : "},
    ],
)
def test_nano_beir_is_equal_to_the_peer(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_nano_folder(tmp_path)
    kinds = (evaluators.SparseNanoBEIREvaluator, peer.SparseNanoBEIREvaluator)
    ours, theirs = (kind(dataset_id=str(folder), **settings) for kind in kinds)
    assert_equal_to_peer(ours, theirs, tiny_sparse_model(), tmp_path, caplog)


def test_every_sparse_evaluator_of_the_peer_is_bundled_and_checked_here() -> None:
    others = {"SparseNanoBEIREvaluator", "ReciprocalRankFusionEvaluator"}
    assert set(peer.__all__) == {kind for kind, _, _ in CASES} | others
    assert set(peer.__all__) <= set(evaluators.__all__)
