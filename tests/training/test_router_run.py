"""Models that encode queries and documents in different ways, trained and evaluated with the callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sentence_transformer import evaluation as peer
from support.loop import logged, make_trainer
from support.models import tiny_model, tiny_router_model, tiny_static_model
from support.parity import sentences

from st_eval_callbacks import EvaluatorCallback, evaluators

QUERIES = dict(enumerate(dict.fromkeys(sentences(12, seed=1))))
CORPUS = {100 + number: text for number, text in enumerate(dict.fromkeys(sentences(30, seed=2)))}
RELEVANT = {query: {100 + query} for query in QUERIES}


def retrieval(kinds: Any) -> Any:
    return kinds.InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, name="ir")


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (tiny_router_model, {"router_mapping": {"anchor": "query", "positive": "document"}}),
        (lambda: tiny_model(prompts={"query": "query : ", "document": "passage : "}), {}),
        (
            lambda: tiny_model(prompts={"query": "query : ", "document": "passage : "}),
            {"prompts": {"anchor": "query : ", "positive": "passage : "}},
        ),
        (tiny_static_model, {}),
    ],
    ids=["router", "prompts", "prompts in training too", "static"],
)
def test_the_value_of_the_loaded_best_is_that_of_the_peer(
    build: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    model = build()
    callback = EvaluatorCallback(retrieval(evaluators), every=2, load_best_model_at_end=True)
    trainer = make_trainer(
        tmp_path, [callback], model=model, save_strategy="steps", save_steps=2, max_steps=4, **arguments
    )
    trainer.train()
    values = dict(logged(trainer, "eval_ir_cosine_ndcg@10"))
    assert sorted(values) == [2, 4]
    assert trainer.state.best_global_step == max(values, key=lambda step: (values[step], -step))
    expected = retrieval(peer)(model)
    assert values[trainer.state.best_global_step] == pytest.approx(expected["ir_cosine_ndcg@10"], abs=1e-6)
