"""Retrieval by multi-vector models: sentence-transformers' values, and what must come out right."""

from __future__ import annotations

import functools
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.multi_vector_encoder import evaluation as peer
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util.similarity import maxsim, mean_maxsim
from support.models import tiny_model, tiny_multi_vector_model
from support.nano import make_nano_folder
from support.parity import assert_equal_to_peer, sentences

from benchmarks.multi_vector import StubMultiVectorModel
from st_eval_callbacks import evaluators
from st_eval_callbacks.encoding import session
from st_eval_callbacks.evaluators import (
    InformationRetrievalEvaluator,
    MultiVectorInformationRetrievalEvaluator,
    MultiVectorNanoBEIREvaluator,
)

PROMPTS = {"query": "query : ", "document": "passage : "}
QUERIES = {f"q{i}": text for i, text in enumerate([*sentences(9, 1), "cat"])}
CORPUS = {f"d{i}": text for i, text in enumerate([*sentences(40, 2), "bird", "fish"])}
RELEVANT = {query: {f"d{i}", f"d{(i * 7) % 42}"} for i, query in enumerate(QUERIES)}
DATA = (QUERIES, CORPUS, RELEVANT)


def both(**settings: Any) -> tuple[Any, Any]:
    return MultiVectorInformationRetrievalEvaluator(*DATA, **settings), peer.MultiVectorInformationRetrievalEvaluator(
        *DATA, **settings
    )


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {}),
        ({"similarity_fn_name": "meanmaxsim"}, {"name": "dev"}),
        ({"prompts": PROMPTS}, {"corpus_chunk_size": 7, "batch_size": 3}),
        ({"prompts": PROMPTS}, {"query_prompt_name": "document", "corpus_prompt": "passage : find "}),
        ({}, {"query_prompt": "find : ", "chunk_elements": 1000, "map_at_k": [5], "ndcg_at_k": [3, 20]}),
        ({}, {"score_functions": {"one": maxsim, "mean": mean_maxsim}}),
        ({}, {"score_functions": {"maxsim": functools.partial(maxsim, chunk_elements=500)}}),
        ({"similarity_fn_name": "meanmaxsim"}, {"main_score_function": "meanmaxsim"}),
    ],
)
def test_it_is_equal_to_the_peer(
    model: dict[str, Any], settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert_equal_to_peer(*both(**settings), tiny_multi_vector_model(**model), tmp_path, caplog)


def test_predictions_are_those_of_the_peer(tmp_path: Path) -> None:
    import json

    ours, theirs = both(write_predictions=True)
    found = []
    for name, evaluator in {"ours": ours, "theirs": theirs}.items():
        evaluator(tiny_multi_vector_model(), str(tmp_path / name))
        [path] = (tmp_path / name).glob("*.jsonl")
        found.append((path.name, [json.loads(line) for line in path.read_text().splitlines()]))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one["query_id"] == other["query_id"]
        scores = [{hit["corpus_id"]: hit["score"] for hit in each["results"]} for each in (one, other)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"ties": "expected"}, {"write_predictions": True}])
def test_metrics_do_not_depend_on_chunks_even_with_ties(settings: dict[str, Any]) -> None:
    vectors = {f"q{i}": torch.eye(4)[i : i + 2] for i in range(3)}
    # A third of the documents has the same vectors, and most others tie.
    vectors |= {f"d{i}": torch.eye(4)[[i % 3, i % 2]] for i in range(24)}
    texts = {name: name for name in vectors}
    given = (
        {name: name for name in texts if name[0] == "q"},
        {name: name for name in texts if name[0] == "d"},
        {f"q{i}": {f"d{i}", f"d{i + 9}"} for i in range(3)},
    )
    found = [
        MultiVectorInformationRetrievalEvaluator(*given, corpus_chunk_size=size, **settings)(
            StubMultiVectorModel(vectors)
        )
        for size in (1, 2, 3, 5, 24, 5000)
    ]
    assert all(one == found[0] for one in found)
    if not settings:
        theirs = peer.MultiVectorInformationRetrievalEvaluator(*given)(StubMultiVectorModel(vectors))
        assert found[0] == pytest.approx(theirs, abs=1e-6)


def test_embeddings_that_are_no_numbers_give_nan_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = StubMultiVectorModel(
        {text: torch.full((2, 3), math.nan) for text in [*QUERIES.values(), *CORPUS.values()]}
    )
    evaluator = MultiVectorInformationRetrievalEvaluator(*DATA, name="dev")
    caplog.clear()
    assert all(math.isnan(value) for value in evaluator(model).values())
    assert len(caplog.records) == 1
    assert "10 of 10 queries' scores are not finite" in caplog.text


@pytest.mark.parametrize("form", ["list", "padded"])
def test_documents_may_come_as_vectors(form: str) -> None:
    model = tiny_multi_vector_model()
    expected = MultiVectorInformationRetrievalEvaluator(*DATA)(model)
    given: Any = model.encode_document(list(CORPUS.values()))
    if form == "padded":
        given = torch.nn.utils.rnn.pad_sequence(given, batch_first=True)
    evaluator = MultiVectorInformationRetrievalEvaluator(*DATA)
    assert evaluator(model, corpus_embeddings=given) == pytest.approx(expected, abs=1e-6)
    assert evaluator(model, corpus_model=model) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="5 corpus_embeddings for 42 documents"):
        evaluator(model, corpus_embeddings=given[:5])


def test_two_evaluators_in_a_session_encode_each_text_once() -> None:
    model = StubMultiVectorModel(
        {
            text: torch.randn(2, 4, generator=torch.Generator().manual_seed(len(text)))
            for text in [*QUERIES.values(), *CORPUS.values()]
        }
    )
    with session():
        for name in ("a", "b"):
            MultiVectorInformationRetrievalEvaluator(*DATA, name=name)(model)
    asked = [(method, text) for method, texts in model.calls for text in texts]
    assert len(asked) == len(set(asked)) == len(set(QUERIES.values())) + len(set(CORPUS.values()))


def test_a_prompt_that_replaces_the_trained_one_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_multi_vector_model(prompts=PROMPTS)
    evaluator = MultiVectorInformationRetrievalEvaluator(*DATA, query_prompt="find : ")
    with caplog.at_level(logging.WARNING):
        evaluator(model)
        evaluator(model)
    assert [record.getMessage().count("query_prompt='find : '") for record in caplog.records] == [1]
    caplog.clear()
    MultiVectorInformationRetrievalEvaluator(*DATA, query_prompt="query : find ")(model)
    assert not caplog.records


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate_dim": 8}, "truncate_dim=8"),
        ({"chunk_elements": 0}, "at least 1"),
        ({"chunk_elements": 5, "score_functions": {"m": maxsim}}, "your own score_functions"),
        ({"score_functions": {"x": scoring.xtr_scores}}, r"score_functions\['x'\]: scores of XTR"),
        ({"score_functions": {"x": functools.partial(scoring.xtr_scores, top_k=4)}}, "scores of XTR"),
        ({"score_functions": {"x": scoring.XTRScores()}}, "scores of XTR"),
        ({"score_functions": {"cosine": "cosine"}}, "there is maxsim, meanmaxsim"),
    ],
)
def test_what_means_nothing_for_single_tokens_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiVectorInformationRetrievalEvaluator(*DATA, **settings)


def test_other_kinds_of_model_and_of_evaluator_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"MultiVectorInformationRetrievalEvaluator does not fit SentenceTransformer"):
        MultiVectorInformationRetrievalEvaluator(*DATA).metric_names(tiny_model())
    model, texts = tiny_multi_vector_model(), list(CORPUS.values())
    for evaluator in (
        InformationRetrievalEvaluator(*DATA),
        evaluators.TranslationEvaluator(texts[:3], texts[3:6]),
        evaluators.EmbeddingSimilarityEvaluator(texts[:3], texts[3:6], [0.0, 0.5, 1.0]),
        evaluators.BinaryClassificationEvaluator(texts[:3], texts[3:6], [0, 1, 0]),
        evaluators.ParaphraseMiningEvaluator(CORPUS, duplicates_list=[("d0", "d1")]),
        evaluators.MSEEvaluator(texts[:3], texts[3:6], teacher_model=tiny_model()),
    ):
        with pytest.raises(TypeError, match=rf"{type(evaluator).__name__} does not fit MultiVectorEncoder"):
            evaluator.metric_names(model)
        with pytest.raises(TypeError, match=rf"{type(evaluator).__name__} does not fit MultiVectorEncoder"):
            evaluator(model)


def test_the_evaluator_of_the_same_task_is_named() -> None:
    with pytest.raises(TypeError, match=r"Use MultiVectorInformationRetrievalEvaluator\.$"):
        InformationRetrievalEvaluator(*DATA).metric_names(tiny_multi_vector_model())


# -- NanoBEIR ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset_names": ["msmarco", "nq"], "corpus_chunk_size": 9},
        {"dataset_names": ["nq"], "query_prompts": "query : ", "chunk_elements": 1000},
    ],
)
def test_nano_beir_is_equal_to_the_peer(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_nano_folder(tmp_path)
    kinds = (MultiVectorNanoBEIREvaluator, peer.MultiVectorNanoBEIREvaluator)
    ours, theirs = (kind(dataset_id=str(folder), **settings) for kind in kinds)
    assert_equal_to_peer(ours, theirs, tiny_multi_vector_model(), tmp_path, caplog)
    for one, other in zip(ours.evaluators, theirs.evaluators, strict=True):
        assert isinstance(one, MultiVectorInformationRetrievalEvaluator)
        assert (one.corpus_chunk_size, one.chunk_elements) == (other.corpus_chunk_size, other.chunk_elements)
    with pytest.raises(ValueError, match="truncate_dim=4"):
        MultiVectorNanoBEIREvaluator(dataset_id=str(folder), truncate_dim=4, dataset_names=["nq"])
