"""NanoBEIR from a local folder in the hub's layout: the peer's values, keys and table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import tiny_model
from support.nano import make_nano_folder
from support.parity import assert_equal_to_peer

from st_eval_callbacks.evaluators import InformationRetrievalEvaluator, NanoBEIREvaluator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tiny data sets with the subsets corpus, queries and qrels."""
    return make_nano_folder(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset_names": ["msmarco", "nq"]},
        {"dataset_names": ["msmarco", "nq"], "aggregate_key": "worst", "aggregate_fn": min, "truncate_dim": 6},
        {"dataset_names": ["nq"], "query_prompts": "query : "},
    ],
)
def test_it_is_equal_to_the_peer(
    settings: dict[str, Any], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (kind(dataset_id=str(folder), **settings) for kind in (NanoBEIREvaluator, peer.NanoBEIREvaluator))
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)
    assert all(isinstance(one, InformationRetrievalEvaluator) for one in ours.evaluators)


def test_an_unknown_data_set_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match="msmarco"):
        NanoBEIREvaluator(["msmarko"], dataset_id=str(folder))


def test_a_judgement_with_score_zero_is_not_relevant(folder: Path) -> None:
    added = {}
    for path in (folder / "qrels").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        judged = {(row["query-id"], row["corpus-id"]) for row in rows}
        added[path.stem] = next(f"d{i}" for i in range(20) if ("q0", f"d{i}") not in judged)
        scored = [{**row, "score": 1} for row in rows]
        scored.append({"query-id": "q0", "corpus-id": added[path.stem], "score": 0})
        path.write_text("\n".join(json.dumps(row) for row in scored) + "\n")
    ours, theirs = (
        kind(["nq"], dataset_id=str(folder)).evaluators[0] for kind in (NanoBEIREvaluator, peer.NanoBEIREvaluator)
    )
    assert added["NanoNQ"] not in ours.relevant_docs["q0"]
    assert added["NanoNQ"] in theirs.relevant_docs["q0"]
