"""What holds for every bundled evaluator."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer import evaluation as peer
from support.bundled import BUILDERS
from support.loop import make_trainer
from support.models import tiny_model, tiny_sparse_model

from st_eval_callbacks import EvaluatorCallback, evaluators

ALONE = {"NanoBEIREvaluator", "SequentialEvaluator"}  # made of others, with tests of their own
OTHER_KINDS: dict[str, Any] = {
    "sparse": SparseEncoder,
    "cross_encoder": CrossEncoder,
    "multi_vector": MultiVectorEncoder,
}
# Tasks that need no more of a model than similarities and hits. MSE stands apart: its teacher here is dense.
FITS_SPARSE = {
    "InformationRetrievalEvaluator",
    "EmbeddingSimilarityEvaluator",
    "BinaryClassificationEvaluator",
    "TripletEvaluator",
    "RerankingEvaluator",
    "TranslationEvaluator",
}
each = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def test_every_dense_evaluator_of_the_peer_is_bundled_and_checked_here() -> None:
    names = {name for name in peer.__all__ if name.endswith(("Evaluator", "DataFrame"))} - {
        "BaseEvaluator",
        "SentenceEvaluator",
    }
    assert names <= set(evaluators.__all__)
    assert names == set(BUILDERS) | ALONE


@each
def test_two_calls_are_equal_and_the_keys_are_known_before(build: Any) -> None:
    model = tiny_model()
    evaluator = build(model)
    assert isinstance(evaluator, BaseEvaluator)
    named = evaluator.metric_names(model)
    first = evaluator(model)
    assert list(first) == named
    assert evaluator(model) == first
    assert evaluator.primary_metric in first


@each
@pytest.mark.parametrize("name", ["dev", "cosine", "a/../b"])
def test_a_table_written_twice_has_one_header_and_rows_as_wide(build: Any, name: str, tmp_path: Path) -> None:
    model = tiny_model()
    evaluator = build(model, name=name)
    for step in (3, 6):
        result = evaluator(model, str(tmp_path / "eval"), 0.5, step)
        assert evaluator.primary_metric in result
        assert all(key.startswith(f"{name}_") for key in result)
    [path] = tmp_path.rglob("*.csv")
    assert path.parent == tmp_path / "eval"
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert header[:2] == ["epoch", "steps"]
    assert [row[:2] for row in rows] == [["0.5", "3"], ["0.5", "6"]]
    assert {len(row) for row in rows} == {len(header)}


@each
def test_nothing_is_written_when_not_wanted(build: Any, tmp_path: Path) -> None:
    model = tiny_model()
    build(model, write_csv=False)(model, str(tmp_path))
    assert not list(tmp_path.iterdir())


@each
def test_the_model_card_holds_the_metrics(build: Any) -> None:
    model = tiny_model()
    evaluator = build(model, name="dev")
    result = evaluator(model)
    assert model.model_card_data.eval_results_dict[evaluator] == result


@each
def test_training_goes_on_from_the_same_modes_and_random_numbers(build: Any) -> None:
    model = tiny_model(dropout=0.1)
    evaluator = build(model)
    model.train()
    state = torch.get_rng_state()
    evaluator(model)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in BUILDERS for kind in OTHER_KINDS if kind != "sparse" or name not in FITS_SPARSE],
)
def test_a_kind_of_model_that_it_does_not_fit_is_refused_by_name(name: str, kind: str) -> None:
    evaluator = BUILDERS[name](tiny_model())
    model = OTHER_KINDS[kind].__new__(OTHER_KINDS[kind])
    torch.nn.Module.__init__(model)
    with pytest.raises(TypeError, match=OTHER_KINDS[kind].__name__):
        evaluator.metric_names(model)


@pytest.mark.parametrize("name", sorted(FITS_SPARSE))
def test_a_sparse_model_that_it_fits_has_the_metrics_it_names(name: str) -> None:
    model = tiny_sparse_model()
    evaluator = BUILDERS[name](tiny_model(), name="dev")
    names = evaluator.metric_names(model)
    assert evaluator.primary_metric in names
    assert all(key.startswith("dev_") for key in names)


def test_all_run_together_in_training(tmp_path: Path) -> None:
    model = tiny_model()
    callback = EvaluatorCallback([build(model, name=name) for name, build in BUILDERS.items()], every=4)
    trainer = make_trainer(tmp_path, [callback], model=model)
    trainer.train()
    assert [record.step for record in callback.history] == [4, 8]
    assert all(name in record.seconds for record in callback.history for name in BUILDERS)
    assert len(list((tmp_path / "eval").glob("*.csv"))) == len(BUILDERS)
