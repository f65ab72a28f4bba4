"""Several sizes of embedding are measured from one encoding, as a chain of evaluators would measure them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sentence_transformers.base.evaluation import SequentialEvaluator as PeerSequentialEvaluator
from sentence_transformers.sentence_transformer import evaluation as peer
from support.bundled import BUILDERS, RETRIEVAL
from support.loop import logged, make_trainer
from support.models import StubModel, tiny_model, tiny_sparse_model
from support.nano import make_nano_folder

from st_eval_callbacks import EvaluatorCallback, evaluators
from st_eval_callbacks.encoding import session
from st_eval_callbacks.evaluators import InformationRetrievalEvaluator, NanoBEIREvaluator
from st_eval_callbacks.report import Run, summarise

DIMS = (8, 3)
SIZED = [name for name in BUILDERS if name != "LabelAccuracyEvaluator"]
each = pytest.mark.parametrize("name", SIZED)


def test_every_evaluator_of_dense_embeddings_has_sizes() -> None:
    without = {"LabelAccuracyEvaluator", "SequentialEvaluator"}
    dense = {
        name
        for name in evaluators.__all__
        if "dense" in getattr(getattr(evaluators, name), "kinds", ()) and name != "Evaluator"
    }
    sparse = {name for name in dense if name.startswith("Sparse")}
    assert dense - sparse - without - {"ReciprocalRankFusionEvaluator"} == {*SIZED, "NanoBEIREvaluator"}


@each
@pytest.mark.parametrize("own_name", ["dev", ""])
def test_values_and_keys_are_those_of_one_evaluator_a_size(name: str, own_name: str) -> None:
    model = tiny_model()
    sized = BUILDERS[name](model, name=own_name, truncate_dims=DIMS)
    chain: dict[str, float] = {}
    for dim in DIMS:
        single = "_".join(filter(None, [own_name, str(dim)]))
        chain.update(BUILDERS[name](model, name=single, truncate_dim=dim)(model))
    named = sized.metric_names(model)
    assert sized.primary_metric in named
    found = sized(model)
    assert found == pytest.approx(chain, abs=1e-6, nan_ok=True)
    assert list(found) == named
    assert sized.primary_metric == next(key for key in found if key.startswith(f"{own_name}_8_".lstrip("_"))) or (
        sized.primary_metric in found and "8" in sized.primary_metric
    )


def test_values_are_those_of_the_peers_chain() -> None:
    model = tiny_model()
    chain = PeerSequentialEvaluator(
        [
            peer.InformationRetrievalEvaluator(
                {str(i): text for i, text in RETRIEVAL[0].items()},
                {str(i): text for i, text in RETRIEVAL[1].items()},
                {str(i): {str(j) for j in docs} for i, docs in RETRIEVAL[2].items()},
                name=f"docs_{dim}",
                truncate_dim=dim,
            )
            for dim in DIMS
        ]
    )
    expected = chain(model)
    expected.pop("sequential_score")
    found = InformationRetrievalEvaluator(
        {str(i): text for i, text in RETRIEVAL[0].items()},
        {str(i): text for i, text in RETRIEVAL[1].items()},
        {str(i): {str(j) for j in docs} for i, docs in RETRIEVAL[2].items()},
        name="docs",
        truncate_dims=DIMS,
    )(model)
    assert found == pytest.approx(expected, abs=1e-6)


def test_sizes_may_exceed_the_one_that_the_model_is_cut_to() -> None:
    texts = ({str(i): text for i, text in part.items()} for part in RETRIEVAL[:2])
    data = (*texts, {str(i): {str(j) for j in docs} for i, docs in RETRIEVAL[2].items()})
    model = tiny_model(truncate_dim=4)
    expected: dict[str, float] = {}
    for dim in DIMS:
        expected.update(peer.InformationRetrievalEvaluator(*data, name=f"docs_{dim}", truncate_dim=dim)(model))
    found = InformationRetrievalEvaluator(*data, name="docs", truncate_dims=DIMS)(model)
    assert found == pytest.approx(expected, abs=1e-6)
    assert model.truncate_dim == 4


@each
def test_each_text_is_encoded_once_for_all_sizes(name: str) -> None:
    model = tiny_model()
    counts = []
    for settings in ({"truncate_dim": 8}, {"truncate_dims": DIMS}):
        evaluator = BUILDERS[name](model, **settings)
        with session() as current:
            evaluator(model)
            counts.append(current.num_encoded)
    assert counts[0] == counts[1] > 0


def test_a_corpus_too_long_to_keep_passes_once_for_all_sizes() -> None:
    texts = {f"d{i}": f"d{i}" for i in range(20000)}
    vectors = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(0))
    model = StubModel({**dict(zip(texts, vectors.tolist(), strict=True)), "q": [1.0] * 6})
    evaluator = InformationRetrievalEvaluator(
        {"q": "q"}, texts, {"q": {"d7"}}, truncate_dims=[6, 4, 2], ndcg_at_k=[10], name="docs"
    )
    with session(cache_bytes=0):
        found = evaluator(model)
    assert sorted(model.encoded) == sorted([*texts, "q"])
    for dim in (6, 4, 2):
        scores = torch.nn.functional.normalize(vectors[:, :dim], dim=1) @ torch.full((dim,), dim**-0.5)
        found_at = int((scores > scores[7]).sum())
        assert found[f"docs_{dim}_cosine_accuracy@10"] == float(found_at < 10)


@each
def test_each_size_has_a_table_and_a_place_in_the_card(name: str, tmp_path: Path) -> None:
    model = tiny_model()
    evaluator = BUILDERS[name](model, name="dev", truncate_dims=DIMS)
    for step in (3, 6):
        evaluator(model, str(tmp_path), 0.5, step)
    tables = {path.name: pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    assert sorted(any(f"_{dim}_" in name for name in tables) for dim in DIMS) == [True, True]
    assert all(table["steps"].tolist() == [3, 6] for table in tables.values())
    shown = model.model_card_data.eval_results_dict
    assert {one.truncate_dim for one in shown} == set(DIMS)


def test_nano_beir_is_measured_in_sizes(tmp_path: Path) -> None:
    folder, model = str(make_nano_folder(tmp_path)), tiny_model()
    settings: dict[str, Any] = {"dataset_names": ["msmarco", "nq"], "dataset_id": folder}
    expected: dict[str, float] = {}
    for dim in DIMS:
        expected.update(NanoBEIREvaluator(truncate_dim=dim, **settings)(model))
    sized = NanoBEIREvaluator(truncate_dims=DIMS, **settings)
    assert sized.metric_names(model) == list(expected)
    assert sized(model) == pytest.approx(expected, abs=1e-6)
    assert sized.primary_metric == "NanoBEIR_mean_8_cosine_ndcg@10"


def test_in_training_any_size_may_decide(tmp_path: Path) -> None:
    model = tiny_model()
    evaluator = InformationRetrievalEvaluator(*RETRIEVAL, name="docs", truncate_dims=DIMS)
    callback = EvaluatorCallback(
        evaluator, every=4, primary="docs_3_cosine_map@100", keep_per_query=True, load_best_model_at_end=True
    )
    trainer = make_trainer(tmp_path, [callback], model=model, save_strategy="steps", save_steps=4)
    trainer.train()
    assert trainer.args.metric_for_best_model == "eval_docs_3_cosine_map@100"
    assert [step for step, _ in logged(trainer, "eval_docs_8_cosine_ndcg@10")] == [4, 8]
    assert {path.name for path in (tmp_path / "eval" / "per_query").iterdir()} == {
        f"Information-Retrieval_evaluation_docs_{dim}" for dim in DIMS
    }
    # The table at the end has a row a size.
    run = Run.read(tmp_path)
    assert [row.metric for row in summarise(run)] == [
        "docs_8_cosine_ndcg@10",
        "docs_3_cosine_ndcg@10",
        "docs_3_cosine_map@100",
    ]
    evaluator.at_sizes[0].keep_per_query = True
    evaluator(model)
    assert evaluator.per_query is not None
    assert len(evaluator.per_query.ids) == len(RETRIEVAL[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate_dims": []}, "truncate_dims"),
        ({"truncate_dims": [8, 8]}, "different"),
        ({"truncate_dims": [0]}, "at least 1"),
        ({"truncate_dims": 8}, "several whole numbers"),
        ({"truncate_dims": [8], "truncate_dim": 4}, "give one of them"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InformationRetrievalEvaluator(*RETRIEVAL, **settings)


def test_sizes_that_the_model_does_not_have_are_refused_before_it_runs() -> None:
    evaluator = InformationRetrievalEvaluator(*RETRIEVAL, truncate_dims=[999, 4])
    with pytest.raises(ValueError, match="have 16 dimensions"):
        evaluator.metric_names(tiny_model())
    with pytest.raises(TypeError, match="sparse"):
        evaluator.metric_names(tiny_sparse_model())
