"""MaxSim against plain loops and sentence-transformers, whatever the blocks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import similarity as peer
from torch import Tensor

from st_eval_callbacks.kernels import maxsim, maxsim_pairs, maxsim_search
from st_eval_callbacks.kernels.maxsim import MAXSIM_NAMES, MaxSimScorer, all_maxsim
from st_eval_callbacks.kernels.maxsim_search import MaxSimSearch
from st_eval_callbacks.kernels.ragged_rows import RaggedRows

ALL_PAIRS = {"maxsim": peer.maxsim, "meanmaxsim": peer.mean_maxsim}
PAIRWISE = {"maxsim": peer.maxsim_pairwise, "meanmaxsim": peer.mean_maxsim_pairwise}
LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=7)
names = pytest.mark.parametrize("name", MAXSIM_NAMES)


def matrices(lengths: list[int], dim: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, generator=generator) for length in lengths]


def some(num: int, longest: int, dim: int = 8, seed: int = 0) -> list[Tensor]:
    lengths = torch.randint(1, longest + 1, (num,), generator=torch.Generator().manual_seed(seed))
    return matrices(lengths.tolist(), dim, seed)


def by_hand(name: str, query: Tensor, document: Tensor) -> float:
    """One score by plain loops."""
    if not len(document):
        total = -1e9
    else:
        products = [[sum(a * b for a, b in zip(q, d, strict=True)) for d in document.tolist()] for q in query.tolist()]
        total = float(sum(map(max, products)))
    return total / max(len(query), 1) if name == "meanmaxsim" else total


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of few vectors, so that even small inputs take many."""
    monkeypatch.setattr(maxsim, "_CPU_BLOCK", (8, 3))
    monkeypatch.setattr(maxsim, "_TILE", 4)
    monkeypatch.setattr(maxsim_pairs, "_CPU_ELEMENTS", 300)
    monkeypatch.setattr(maxsim_search, "_FEWEST_DOCUMENTS", 2)


# -- values -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(queries=LENGTHS, documents=LENGTHS, name=st.sampled_from(MAXSIM_NAMES), rows=st.sampled_from([4, 8, 4096]))
def test_all_pairs_and_listed_pairs_are_those_of_plain_loops(queries, documents, name, rows):
    left, right = matrices(queries), matrices(documents, seed=1)
    expected = torch.tensor([[by_hand(name, q, d) for d in right] for q in left])
    before = maxsim._CPU_BLOCK
    maxsim._CPU_BLOCK = (rows, rows)
    try:
        found = all_maxsim(name, RaggedRows.of(left), RaggedRows.of(right))
    finally:
        maxsim._CPU_BLOCK = before
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-6)
    first, second = torch.tensor(list(itertools.product(range(len(left)), range(len(right))))).T
    pairs = maxsim_pairs.maxsim_pairs([name], RaggedRows.of(left), RaggedRows.of(right), first, second)[name]
    torch.testing.assert_close(pairs, expected.flatten(), atol=1e-5, rtol=1e-6)


@names
@pytest.mark.usefixtures("small_blocks")
def test_values_are_those_of_the_peer_ragged_and_padded(name):
    left, right = some(9, 7), some(23, 30, seed=1)
    expected = ALL_PAIRS[name](left, right)
    padded = [torch.nn.utils.rnn.pad_sequence(side, batch_first=True) for side in (left, right)]
    for queries, documents in ([RaggedRows.of(left), RaggedRows.of(right)], map(RaggedRows.of_padded, padded)):
        torch.testing.assert_close(all_maxsim(name, queries, documents), expected, atol=1e-5, rtol=1e-6)
    places = torch.arange(23) % 9
    pairs = maxsim_pairs.maxsim_pairs(MAXSIM_NAMES, RaggedRows.of(left), RaggedRows.of(right), places)
    expected = PAIRWISE[name]([left[place] for place in places.tolist()], right)
    torch.testing.assert_close(pairs[name], expected, atol=1e-5, rtol=1e-6)


@names
def test_inputs_without_vectors_score_as_the_peers_do(name):
    left, right = matrices([2, 0, 1]), matrices([0, 3], seed=1)
    found = all_maxsim(name, RaggedRows.of(left), RaggedRows.of(right))
    torch.testing.assert_close(found, ALL_PAIRS[name](left, right))
    assert found[1].tolist() == [-1e9, 0]
    assert found[:, 0].max() < -1e8
    both = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    pairs = maxsim_pairs.maxsim_pairs([name], RaggedRows.of(left), RaggedRows.of(right), *both)[name]
    torch.testing.assert_close(pairs, found[both])


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
def test_narrow_types_are_widened_before_the_product(name, dtype):
    # None of these types has a 10001.
    rows = [RaggedRows.of([torch.tensor([[100, 1]]).to(dtype)]) for _ in range(2)]
    for found in (all_maxsim(name, *rows)[0], maxsim_pairs.maxsim_pairs([name], *rows)[name]):
        assert found.dtype == torch.float32
        assert found.tolist() == [10001.0]


@names
def test_float64_stays_float64(name):
    rows = RaggedRows.of([one.double() for one in some(5, 4)])
    assert all_maxsim(name, rows, rows).dtype == torch.float64
    assert maxsim_pairs.maxsim_pairs([name], rows, rows)[name].dtype == torch.float64


@names
def test_a_vector_that_is_no_number_shows_in_the_scores_it_touches_and_in_no_others(name):
    documents = some(6, 5, seed=1)
    documents[2][-1, 0] = math.nan
    documents[4][0, 0] = math.inf
    rows = RaggedRows.of(some(4, 3)), RaggedRows.of(documents)
    for finite in (
        all_maxsim(name, *rows).isfinite()[0],
        maxsim_pairs.maxsim_pairs([name], *rows, torch.zeros(6, dtype=torch.int64))[name].isfinite(),
    ):
        assert not finite[2]
        assert finite[[0, 1, 3, 5]].all()


# -- blocks -----------------------------------------------------------------------------------------------------------


@names
@pytest.mark.parametrize("dim", [16, 128])
def test_a_document_scores_the_same_to_the_bit_wherever_it_stands(name, dim):
    queries, documents = RaggedRows.of(some(40, 32, dim)), some(60, 180, dim, seed=1)
    again = RaggedRows.of([documents[7], *documents, documents[7], documents[7]])
    scores = all_maxsim(name, queries, again)
    for place in (0, 61, 62):
        assert torch.equal(scores[:, place], scores[:, 8])
    order = torch.randperm(63, generator=torch.Generator().manual_seed(2))
    assert torch.equal(all_maxsim(name, queries, again.take(order)), scores[:, order])
    scorer = MaxSimScorer(name, queries, torch.float32)
    in_portions = torch.cat([scorer.score(again.part(start, start + 9)) for start in range(0, 63, 9)], dim=1)
    assert torch.equal(in_portions, scores)


@names
def test_a_pair_scores_the_same_to_the_bit_whatever_is_listed_with_it(name):
    left, right = RaggedRows.of(some(30, 12)), RaggedRows.of(some(30, 90, seed=1))
    first, second = torch.arange(30).repeat(3), torch.arange(30).repeat(3)
    found = maxsim_pairs.maxsim_pairs([name], left, right, first, second)[name].view(3, 30)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    for place in range(30):
        alone = maxsim_pairs.maxsim_pairs([name], left, right, first[[place]], second[[place]])[name]
        assert alone.item() == found[0, place].item()


def test_memory_is_that_of_a_block_whatever_the_number_of_documents():
    scorer = MaxSimScorer("maxsim", RaggedRows.of(some(200, 32)), torch.float32)
    scorer.score(RaggedRows.of(some(2000, 40, seed=1)))
    rows, columns = maxsim._CPU_BLOCK
    assert scorer._products.numel() <= rows * columns
    assert len(scorer._buffer) == rows


# -- search -----------------------------------------------------------------------------------------------------------


def expected_hits(scores: Tensor, k: int) -> tuple[list[list[int]], Tensor]:
    """The k best by (score descending, position ascending)."""
    best = scores.sort(dim=1, descending=True, stable=True)
    return best.indices[:, :k].tolist(), best.values[:, :k]


@settings(deadline=None, max_examples=50)
@given(
    portion=st.integers(1, 20),
    block=st.sampled_from([1, 2, 5, 64]),
    k=st.integers(1, 25),
    coarse=st.booleans(),
    name=st.sampled_from(MAXSIM_NAMES),
)
def test_a_search_finds_the_best_of_all_pairs_in_any_portions(portion, block, k, coarse, name):
    queries, documents = some(5, 4), some(20, 6, seed=1)
    if coarse:
        # Few different scores: many ties, also at the k-th place.
        queries, documents = ([one.sign()[:1, :2] for one in side] for side in (queries, documents))
    rows = RaggedRows.of(documents)
    watch = torch.tensor([0, 4, 2]), torch.tensor([19, 0, 7])
    search = MaxSimSearch(RaggedRows.of(queries), k, name, track_ties=True, watch=watch, block_size=block)
    for start in range(0, 20, portion):
        search.add(rows.part(start, start + portion))
    scores = all_maxsim(name, RaggedRows.of(queries), rows)
    positions, values = expected_hits(scores, k)
    hits = search.result()
    kept = min(k, 20)
    assert hits.positions[:, :kept].tolist() == positions
    assert torch.equal(hits.scores[:, :kept], values)
    assert hits.positions[:, kept:].eq(-1).all()
    assert torch.equal(search.watched_scores, scores[watch])
    assert search.num_nonfinite == 0
    tied = (scores == values[:, -1:]).sum(dim=1) if k <= 20 else torch.zeros(5, dtype=torch.int64)
    assert search.num_tied.tolist() == tied.tolist()


@pytest.mark.parametrize("portion", [1, 2, 3, 17])
def test_a_function_gets_padded_queries_and_a_list_of_documents(portion):
    queries, documents = some(4, 3), some(17, 5, seed=1)
    rows = RaggedRows.of(documents)
    seen: list[int] = []

    def function(padded: Tensor, listed: list[Tensor]) -> Tensor:
        assert padded.shape == (4, max(map(len, queries)), 8)
        seen.append(len(listed))
        return 2 * peer.maxsim(padded, listed)

    search = MaxSimSearch(RaggedRows.of(queries), 17, function)
    for start in range(0, 17, portion):
        search.add(rows.part(start, start + portion))
    positions, values = expected_hits(2 * peer.maxsim(queries, documents), 17)
    assert search.result().positions.tolist() == positions
    torch.testing.assert_close(search.result().scores, values)
    assert sum(seen) == 17


def test_queries_with_scores_that_are_no_numbers_are_counted():
    queries = [torch.ones(1, 2), torch.tensor([[math.nan, 1.0]])]
    search = MaxSimSearch(RaggedRows.of(queries), 2, "maxsim")
    search.add(RaggedRows.of([torch.ones(1, 2), torch.zeros(2, 2)]))
    assert search.nonfinite.tolist() == [False, True]
    assert search.num_nonfinite == 1
    assert search.result().positions[0].tolist() == [0, 1]


def test_a_search_without_documents_finds_nothing():
    search = MaxSimSearch(RaggedRows.of(some(2, 3)), 2, "maxsim")
    assert search.result().positions.tolist() == [[-1, -1], [-1, -1]]
    with pytest.raises(RuntimeError, match="after result"):
        search.add(RaggedRows.of(some(1, 2)))


# -- what is refused --------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused():
    rows, wider = RaggedRows.of(some(2, 3)), RaggedRows.of(some(2, 3, dim=9))
    with pytest.raises(ValueError, match="Did you mean 'meanmaxsim'"):
        all_maxsim("mean_maxsim", rows, rows)
    with pytest.raises(ValueError, match="unknown similarity 'cosine'"):
        MaxSimSearch(rows, 1, "cosine")
    with pytest.raises(ValueError, match="k must be"):
        MaxSimSearch(rows, 0, "maxsim")
    with pytest.raises(ValueError, match="8 dimensions, got 9"):
        all_maxsim("maxsim", rows, wider)
    with pytest.raises(ValueError, match="8 dimensions, got 9"):
        MaxSimSearch(rows, 1, "maxsim").add(wider)
    with pytest.raises(ValueError, match="one width"):
        maxsim_pairs.maxsim_pairs(["maxsim"], rows, wider)
    with pytest.raises(ValueError, match="numbers of pairs"):
        maxsim_pairs.maxsim_pairs(["maxsim"], rows, rows, torch.tensor([0]))
    search = MaxSimSearch(rows, 1, lambda queries, documents: torch.zeros(3))
    search.add(rows)
    with pytest.raises(ValueError, match=r"must return \(2, 2\) scores, got \(3,\)"):
        search.result()
    for ask in ("num_tied", "watched_scores"):
        with pytest.raises(RuntimeError, match=ask):
            getattr(MaxSimSearch(rows, 1, "maxsim"), ask)


def test_no_pairs_have_no_scores():
    rows, none = RaggedRows.of(some(2, 3)), torch.empty(0, dtype=torch.int64)
    assert maxsim_pairs.maxsim_pairs(["maxsim"], rows, rows, none, none)["maxsim"].shape == (0,)
