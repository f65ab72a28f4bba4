"""Measures that tell documents judged not relevant from those nobody judged."""

from __future__ import annotations

import pytest
import pytrec_eval
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_eval_callbacks.kernels.judged import JudgedHits, counts_at
from st_eval_callbacks.kernels.ranking import ranking_metrics, relevance_of

NUM_DOCUMENTS = 12


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[list[int]], list[dict[int, int]]]:
    """Rankings of a few queries, and gains of the documents judged for each; -1 marks places without a document."""
    num_queries, depth = draw(st.integers(1, 4)), draw(st.integers(1, NUM_DOCUMENTS))
    rankings = [draw(st.permutations(range(NUM_DOCUMENTS)))[:depth] for _ in range(num_queries)]
    rankings[-1] = [*rankings[-1][: depth // 2 + 1], *[-1] * (depth - depth // 2 - 1)]
    # Documents from 12 on are judged and not in the corpus.
    judged = draw(
        st.lists(
            st.dictionaries(st.integers(0, NUM_DOCUMENTS + 1), st.integers(0, 3), min_size=1, max_size=8),
            min_size=num_queries,
            max_size=num_queries,
        ).filter(lambda all_judged: all(any(one.values()) for one in all_judged))
    )
    return rankings, judged


def judged_hits(rankings: list[list[int]], judged: list[dict[int, int]], threshold: int) -> JudgedHits:
    pairs = [(query, document) for query, gains in enumerate(judged) for document in gains]
    positions = torch.tensor(rankings)
    query, document = (torch.tensor(column) for column in zip(*pairs, strict=True))
    known = torch.tensor(sorted({document for gains in judged for document in gains}))
    return JudgedHits(
        judged=relevance_of(positions, query, document) > 0,
        unknown=(positions >= 0) & ~torch.isin(positions, known),
        num_nonrelevant=torch.tensor([sum(gain < threshold for gain in gains.values()) for gains in judged]),
        num_hits=(positions >= 0).sum(dim=1),
    )


@given(run=runs(), threshold=st.integers(1, 2))
def test_bpref_is_that_of_trec_eval(run: tuple[list[list[int]], list[dict[int, int]]], threshold: int) -> None:
    rankings, judged = run
    gains = [(q, d, float(g)) for q, one in enumerate(judged) for d, g in one.items() if g > 0]
    query, document, gain = (torch.tensor(column) for column in zip(*gains, strict=True))
    num_relevant = torch.tensor([sum(g >= threshold for g in one.values()) for one in judged])
    values = ranking_metrics(
        relevance_of(torch.tensor(rankings), query, document, gain),
        num_relevant,
        [("bpref", None)],
        relevance_threshold=threshold,
        judged=judged_hits(rankings, judged, threshold),
    )["bpref", None]
    qrels = {str(q): {str(d): g for d, g in one.items()} for q, one in enumerate(judged)}
    found = {
        str(q): {str(d): float(-place) for place, d in enumerate(ranking) if d >= 0}
        for q, ranking in enumerate(rankings)
    }
    peer = pytrec_eval.RelevanceEvaluator(qrels, {"bpref"}, relevance_level=threshold).evaluate(found)
    for q, value in enumerate(values.tolist()):
        if num_relevant[q]:
            assert value == pytest.approx(peer[str(q)]["bpref"], abs=1e-6)
        else:
            assert value != value


@given(run=runs(), cutoff=st.integers(1, NUM_DOCUMENTS + 2))
def test_judged_is_a_share_of_the_first_k_hits_and_hole_of_the_first_k_places(
    run: tuple[list[list[int]], list[dict[int, int]]], cutoff: int
) -> None:
    rankings, judged = run
    hits = judged_hits(rankings, judged, 1)
    wanted = [("judged", cutoff), ("hole", cutoff)]
    values = ranking_metrics(
        torch.zeros(len(rankings), len(rankings[0])), torch.zeros(len(rankings)), wanted, judged=hits
    )
    anywhere = {document for gains in judged for document in gains}
    for q, ranking in enumerate(rankings):
        top = [document for document in ranking[:cutoff] if document >= 0]
        assert values["judged", cutoff][q] == sum(document in judged[q] for document in top) / max(len(top), 1)
        assert values["hole", cutoff][q] == sum(document not in anywhere for document in top) / cutoff


@pytest.mark.parametrize("measure", [("bpref", None), ("judged", 3), ("hole", 3)])
def test_they_ask_for_what_they_need(measure: tuple[str, int | None]) -> None:
    with pytest.raises(ValueError, match="which hits are judged"):
        ranking_metrics(torch.zeros(1, 2), torch.ones(1), [measure])


def test_shapes_must_fit() -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="both be"):
        JudgedHits(mask, mask[:1], torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        JudgedHits(mask, mask, torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        JudgedHits(mask, mask, torch.zeros(2), torch.zeros(3))
    assert counts_at(mask, (1, 5)).tolist() == [[0, 0], [0, 0]]
