"""Paraphrase mining: the peer's values, ties, and what is not finite."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import StubModel, tiny_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import ParaphraseMiningEvaluator


def texts_and_duplicates() -> tuple[dict[str, str], list[tuple[str, str]]]:
    texts = list(dict.fromkeys(sentences(60, 11)))
    ids = {f"s{i}": text for i, text in enumerate(texts)}
    return ids, [(f"s{i}", f"s{i + 1}") for i in range(0, 30, 3)] + [("s1", "s2"), ("s0", "absent")]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "add_transitive_closure": True},
        {"max_pairs": 40},
        {"top_k": 3, "query_chunk_size": 7, "corpus_chunk_size": 11},
        {"truncate_dim": 6, "batch_size": 4},
    ],
)
def test_it_is_equal_to_the_peer(settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids, duplicates = texts_and_duplicates()
    ours, theirs = (
        kind(ids, duplicates, **settings) for kind in (ParaphraseMiningEvaluator, peer.ParaphraseMiningEvaluator)
    )
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


def test_pairs_with_equal_scores_share_a_threshold() -> None:
    model = StubModel({text: [1, 0] for text in "abc"})
    result = ParaphraseMiningEvaluator({"1": "a", "2": "b", "3": "c"}, [("1", "2")])(model)
    wanted = {"average_precision": 1 / 3, "f1": 0.5, "precision": 1 / 3, "recall": 1.0}
    assert {key: result[key] for key in wanted} == pytest.approx(wanted)


def test_a_nan_embedding_gives_nan_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = StubModel({"a": [1, 0], "b": [math.nan, math.nan], "c": [0, 1]})
    result = ParaphraseMiningEvaluator({"1": "a", "2": "b", "3": "c"}, [("1", "2")])(model)
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1
    assert "ParaphraseMiningEvaluator" in caplog.text


def test_duplicates_come_as_a_dict_too() -> None:
    ids, duplicates = texts_and_duplicates()
    as_dict: dict[str, dict[str, bool]] = {}
    for one, other in duplicates[:-1]:
        as_dict.setdefault(one, {})[other] = True
        as_dict.setdefault(other, {})[one] = True
    model = tiny_model()
    by_list = ParaphraseMiningEvaluator(ids, duplicates)(model)
    assert ParaphraseMiningEvaluator(ids, duplicates_dict=as_dict)(model) == by_list


def test_a_text_is_no_duplicate_of_itself_and_this_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = StubModel({"a": [1, 0], "b": [1, 0.1], "c": [0, 1]})
    ids = {"1": "a", "2": "b", "3": "c"}
    assert ParaphraseMiningEvaluator(ids, [("1", "2"), ("3", "3")])(model)["recall"] == 1
    assert "duplicates of themselves" in caplog.text
    assert peer.ParaphraseMiningEvaluator(ids, [("1", "2"), ("3", "3")])(model)["recall"] == 0.5


def test_texts_without_any_duplicate_are_refused() -> None:
    with pytest.raises(ValueError, match="none of the 2 texts are duplicates"):
        ParaphraseMiningEvaluator({"1": "a", "2": "b"}, [(1, 2)])  # type: ignore[list-item]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=14))
def test_the_transitive_closure_is_the_peers(edges: list[tuple[int, int, bool]]) -> None:
    found = []
    for kind in (ParaphraseMiningEvaluator, peer.ParaphraseMiningEvaluator):
        graph: Any = defaultdict(lambda: defaultdict(bool))
        for one, other, is_duplicate in edges:
            graph[one][other] = is_duplicate
        closed = kind.add_transitive_closure(graph)
        found.append({(one, other) for one, others in closed.items() for other, is_one in others.items() if is_one})
    assert found[0] == found[1]
