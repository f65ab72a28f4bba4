"""Every evaluator of sentence-transformers is here under its name, with its arguments and defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sentence_transformers.cross_encoder import evaluation as cross_encoder
from sentence_transformers.multi_vector_encoder import evaluation as multi_vector
from sentence_transformers.sentence_transformer import evaluation as dense
from sentence_transformers.sparse_encoder import evaluation as sparse

from st_eval_callbacks import evaluators

# Bases and words of sentence-transformers, and what it calls deprecated.
NOT_OURS = {"BaseEvaluator", "SentenceEvaluator", "SimilarityFunction"}
PEERS = {
    name: getattr(module, name)
    for module in (dense, sparse, cross_encoder, multi_vector)
    for name in module.__all__
    if name.endswith("Evaluator") or inspect.isclass(getattr(module, name))
    if name not in NOT_OURS and not name.startswith("CE")
}


def settled(value: Any) -> Any:
    """A default that can be compared: lists become tuples, functions are what they are made of."""
    if callable(value) and not inspect.isclass(value):
        return "a function"
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", PEERS)
def test_an_evaluator_takes_what_its_peer_takes(name: str) -> None:
    theirs, ours = (inspect.signature(one).parameters for one in (PEERS[name], getattr(evaluators, name)))
    wanted = {
        key: settled(parameter.default)
        for key, parameter in theirs.items()
        # Swallowing what is misspelt is left to the peer.
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert {key: settled(ours[key].default) for key in wanted if key in ours} == wanted
    by_position = [key for key in theirs if key in wanted]
    assert list(ours)[: len(by_position)] == by_position


def test_all_names_are_public() -> None:
    assert set(PEERS) <= set(evaluators.__all__)
    assert len(PEERS) > 25
