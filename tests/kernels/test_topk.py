"""Streaming top-k against a slow full sort, whatever the portions, blocks and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util

from st_eval_callbacks.kernels.similarity import SIMILARITY_NAMES, all_pairs
from st_eval_callbacks.kernels.topk import Hits, StreamingSearch, merge_hits, merge_num_tied


def slow_hits(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best by (score descending, position ascending), NaN left out."""
    best = np.full((len(scores), k), -np.inf)
    positions = np.full((len(scores), k), -1)
    for row, values in enumerate(scores):
        order = sorted((p for p in range(len(values)) if not np.isnan(values[p])), key=lambda p: (-values[p], p))[:k]
        best[row, : len(order)] = values[order]
        positions[row, : len(order)] = order
    return best, positions


def make_scores(kind: str, num_queries: int, num_documents: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_queries, num_documents))
    if kind == "few values":
        scores = rng.integers(0, 4, scores.shape)
    elif kind == "all tied":
        scores = np.zeros(scores.shape)
    elif kind == "rising":
        scores = np.sort(scores, axis=1)
    elif kind == "rising with ties":
        scores = np.sort(rng.integers(0, max(num_documents // 3, 1), scores.shape), axis=1)
    elif kind == "falling":
        scores = -np.sort(scores, axis=1)
    elif kind == "infinite":
        scores[rng.random(scores.shape) < 0.2] = -np.inf
        scores[rng.random(scores.shape) < 0.02] = np.inf
    elif kind == "one rising query":
        scores[0] = np.sort(scores[0])
    return scores.astype(np.float32)


def search_table(scores: np.ndarray, k: int, portions: list[int], **options) -> StreamingSearch:
    """Search documents whose scores are given, by a similarity that looks them up."""
    table = torch.from_numpy(scores)
    queries, documents = (torch.arange(size, dtype=torch.float32)[:, None] for size in table.shape)
    search = StreamingSearch(queries, k, lambda q, d: table[q[:, 0].long()][:, d[:, 0].long()], **options)
    start = 0
    while start < len(documents):
        size = portions[start % len(portions)]
        search.add(documents[start : start + size])
        start += size
    return search


KINDS = [
    "random",
    "few values",
    "all tied",
    "rising",
    "rising with ties",
    "falling",
    "infinite",
    "one rising query",
]


@given(
    kind=st.sampled_from(KINDS),
    num_queries=st.sampled_from([1, 3, 40]),
    num_documents=st.sampled_from([1, 2, 31, 33, 200, 900]),
    k=st.sampled_from([1, 2, 10, 100, 1000]),
    portions=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    block_size=st.sampled_from([32, 50, 128, 512, None]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=150)
def test_hits_ties_and_watched_scores_equal_a_full_sort(
    kind, num_queries, num_documents, k, portions, block_size, seed
):
    scores = make_scores(kind, num_queries, num_documents, seed)
    rng = np.random.default_rng(seed)
    watch = rng.integers(0, num_queries, 30), rng.integers(0, num_documents + 3, 30)
    tensors = tuple(torch.from_numpy(values) for values in watch)
    search = search_table(scores, k, portions, track_ties=True, watch=tensors, block_size=block_size)
    best, positions = slow_hits(scores, k)
    hits = search.result()
    np.testing.assert_array_equal(hits.positions.numpy(), positions)
    np.testing.assert_array_equal(hits.scores.numpy(), best.astype(np.float32))
    num_tied = (scores == best[:, -1:]).sum(axis=1) if k <= num_documents else np.zeros(num_queries)
    np.testing.assert_array_equal(search.num_tied.numpy(), num_tied)
    inside = watch[1] < num_documents
    expected = np.where(inside, scores[watch[0], watch[1] * inside], np.nan)
    np.testing.assert_array_equal(search.watched_scores.numpy(), expected.astype(np.float32))
    assert search.num_nonfinite == (np.isinf(best) & (positions >= 0)).any(axis=1).sum()


@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.01, 0.5, 1.0]),
    k=st.sampled_from([1, 5, 300]),
    block_size=st.sampled_from([64, 512]),
)
@settings(deadline=None, max_examples=60)
def test_nan_scores_never_win_and_are_counted(seed, share, k, block_size):
    scores = make_scores("random", 6, 250, seed)
    scores[np.random.default_rng(seed).random(scores.shape) < share] = np.nan
    scores[:2] = make_scores("few values", 2, 250, seed)
    search = search_table(scores, k, [70], block_size=block_size, track_ties=True)
    hits = search.result()
    best, positions = slow_hits(scores, k)
    np.testing.assert_array_equal(hits.positions.numpy(), positions)
    np.testing.assert_array_equal(hits.scores.numpy(), best.astype(np.float32))
    assert search.nonfinite.tolist() == np.isnan(scores).any(axis=1).tolist()
    assert search.num_nonfinite == np.isnan(scores).any(axis=1).sum()


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_a_nan_document_counts_for_every_query_and_a_nan_query_for_itself(name):
    queries, documents = torch.rand(4, 20), torch.rand(50, 20)
    documents[7] = float("nan")
    search = StreamingSearch(queries, 50, name)
    search.add(documents)
    assert search.num_nonfinite == 4
    assert not (search.result().positions == 7).any()
    assert search.result().positions[:, -1].tolist() == [-1] * 4
    queries[1] = float("nan")
    documents[7] = 0
    search = StreamingSearch(queries, 5, name)
    search.add(documents)
    assert search.nonfinite.tolist() == [False, True, False, False]
    assert search.result().positions[1].tolist() == [-1] * 5


def integers(num_rows: int, dim: int, seed: int) -> torch.Tensor:
    """Embeddings whose products and distances are exact, with many ties."""
    return torch.randint(-2, 3, (num_rows, dim), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("name", ["dot", "manhattan", "euclidean"])
@pytest.mark.parametrize("dim", [3, 40])
def test_results_are_identical_for_every_block_size_and_portion(name, dim):
    queries, documents = integers(9, dim, 0), integers(1300, dim, 1)
    expected = slow_hits(all_pairs(name, queries.double(), documents.double()).float().numpy(), 25)
    for block_size, portions in [(13, [300]), (512, [1, 1300]), (1024, [17, 600]), (None, [700])]:
        for portion in portions:
            search = StreamingSearch(queries, 25, name, block_size=block_size)
            for part in documents.split(portion):
                search.add(part)
            hits = search.result()
            np.testing.assert_array_equal(hits.positions.numpy(), expected[1])
            np.testing.assert_allclose(hits.scores.numpy(), expected[0], rtol=1e-6)


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_portions_never_change_a_bit_of_the_scores(name):
    queries = torch.randn(300, 48, generator=torch.Generator().manual_seed(0))
    documents = torch.randn(6000, 48, generator=torch.Generator().manual_seed(1))
    whole = StreamingSearch(queries, 30, name, track_ties=True)
    whole.add(documents)
    for sizes in ([1, 4095, 4096, 5000], [13] * 461, [6000]):
        search = StreamingSearch(queries, 30, name, track_ties=True)
        start = 0
        for size in sizes:
            search.add(documents[start : start + size])
            start += size
        search.add(documents[start:])
        for given_values, expected in zip(search.result(), whole.result(), strict=True):
            assert torch.equal(given_values, expected)
        assert torch.equal(search.num_tied, whole.num_tied)


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
@pytest.mark.parametrize("num_queries", [1, 2, 7, 33])
@pytest.mark.parametrize("num_documents", [3, 700, 4100, 5001])
def test_a_repeated_document_has_one_score_wherever_it_stands(name, num_queries, num_documents):
    generator = torch.Generator().manual_seed(num_documents)
    queries, documents = (torch.randn(size, 37, generator=generator) for size in (num_queries, num_documents))
    places = torch.randperm(num_documents, generator=generator)[: max(num_documents // 3, 2)].sort().values
    documents[places] = queries[:1].clone()
    search = StreamingSearch(queries[:1].repeat(num_queries, 1), len(places), name, track_ties=True)
    search.add(documents)
    hits = search.result()
    assert torch.equal(hits.positions, places.expand_as(hits.positions))
    assert torch.equal(hits.scores, hits.scores[:, :1].expand_as(hits.scores))
    assert search.num_tied.tolist() == [len(places)] * num_queries


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_more_queries_than_a_block_keep_their_order(name):
    queries = torch.randn(1100, 20, generator=torch.Generator().manual_seed(0)).double()
    documents = torch.randn(1500, 20, generator=torch.Generator().manual_seed(1)).double()
    search = StreamingSearch(queries, 3, name)
    search.add(documents)
    best = all_pairs(name, queries, documents).topk(3)
    assert torch.equal(search.result().positions, best.indices)
    torch.testing.assert_close(search.result().scores, best.values)


def test_hits_equal_semantic_search():
    queries = torch.randn(30, 64, generator=torch.Generator().manual_seed(0))
    documents = torch.randn(5000, 64, generator=torch.Generator().manual_seed(1))
    search = StreamingSearch(queries, 20, "cosine")
    search.add(documents)
    expected = util.semantic_search(queries, documents, top_k=20)
    assert search.result().positions.tolist() == [[hit["corpus_id"] for hit in row] for row in expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_other_dtypes_are_searched_in_the_precision_they_are_scored_in(name, dtype):
    queries = (torch.randn(5, 24, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    documents = (torch.randn(600, 24, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    results = []
    for left, right in ((queries, documents), (queries.to(wide), documents.to(wide))):
        search = StreamingSearch(left, 9, name)
        search.add(right)
        results.append(search.result())
    assert results[0].scores.dtype == wide
    assert torch.equal(results[0].scores, results[1].scores)
    assert torch.equal(results[0].positions, results[1].positions)


def test_half_precision_queries_are_told_apart():
    for dtype, query, documents in [
        (torch.bfloat16, [1, 1], [[1, 1], [1, 1.0078125]]),
        (torch.float16, [300, 0], [[250, 0], [300, 0]]),
    ]:
        search = StreamingSearch(torch.tensor([query], dtype=dtype), 2, "dot")
        search.add(torch.tensor(documents, dtype=dtype))
        assert search.result().positions.tolist() == [[1, 0]]
        assert search.num_nonfinite == 0


def test_float64_documents_make_the_search_float64():
    queries, documents = torch.rand(3, 20), torch.rand(40, 20, dtype=torch.float64)
    for similarity in ("cosine", util.cos_sim):
        search = StreamingSearch(queries, 5, similarity)
        search.add(documents)
        assert search.result().scores.dtype == torch.float64


def test_a_function_gets_the_embeddings_as_given_and_nothing_it_has_to_recognise():
    seen = []

    def similarity(queries, documents):
        seen.append((queries.clone(), documents.clone()))
        return (queries @ documents.T).half()

    queries, documents = torch.tensor([[3, 0]]), torch.tensor([[1, 5], [2, 5], [4, 5]])
    search = StreamingSearch(queries, 2, similarity)
    search.add(documents[:2])
    search.add(documents[2:])
    assert search.result().positions.tolist() == [[2, 1]]
    assert len(seen) == 1
    assert torch.equal(seen[0][0], queries.float())
    assert torch.equal(seen[0][1], documents.float())
    assert search.result().scores.dtype == torch.float32


def test_a_function_sees_blocks_of_one_shape_padded_with_a_real_document():
    shapes = []

    def similarity(queries, documents):
        shapes.append(tuple(documents.shape))
        assert (documents != 0).all()
        return queries @ documents.T

    search = StreamingSearch(torch.ones(2, 3), 4, similarity, block_size=8)
    search.add(torch.arange(1.0, 12.0)[:, None].expand(11, 3))
    assert search.result().positions.tolist() == [[10, 9, 8, 7]] * 2
    assert shapes == [(8, 3), (8, 3)]


@pytest.mark.parametrize("wrong", [lambda q, d: torch.zeros(len(q)), lambda q, d: 0.5, lambda q, d: d @ q.T])
def test_a_function_that_returns_something_else_is_refused_with_the_shape(wrong):
    search = StreamingSearch(torch.ones(2, 3), 1, wrong)
    search.add(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"must return \(2, 5\) scores"):
        search.result()


def test_few_or_no_documents_and_no_queries():
    search = StreamingSearch(torch.ones(2, 3), 4, "dot", track_ties=True)
    search.add(torch.ones(0, 3))
    assert search.result().positions.tolist() == [[-1] * 4] * 2
    assert search.result().scores.isneginf().all()
    assert search.num_tied.tolist() == [0, 0]
    assert search.num_nonfinite == 0
    search = StreamingSearch(torch.ones(0, 3), 4, "cosine", track_ties=True)
    search.add(torch.ones(7, 3))
    assert search.result().positions.shape == (0, 4)
    search = StreamingSearch(torch.ones(1, 3), 2, "dot")
    search.add(torch.ones(1, 3))
    assert search.result().positions.tolist() == [[0, -1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: StreamingSearch(torch.ones(1, 2), 0, "dot"), ValueError, "at least 1, got 0"),
        (lambda: StreamingSearch(torch.ones(2), 1, "dot"), ValueError, r"\(2,\)"),
        (lambda: StreamingSearch(torch.ones(1, 2), 1, "dott"), ValueError, "Did you mean 'dot'"),
        (lambda: StreamingSearch(torch.ones(1, 2), 1, "dot").add(torch.ones(1, 3)), ValueError, r"\(1, 3\)"),
        (lambda: StreamingSearch(torch.ones(1, 2), 1, "dot").num_tied, RuntimeError, "track_ties"),
        (lambda: StreamingSearch(torch.ones(1, 2), 1, "dot").watched_scores, RuntimeError, "watch"),
        (
            lambda: StreamingSearch(torch.ones(1, 2), 1, "dot", watch=(torch.tensor([1]), torch.tensor([0]))),
            ValueError,
            r"\[0, 1\)",
        ),
        (
            lambda: StreamingSearch(torch.ones(1, 2), 1, "dot", watch=(torch.tensor([0]), torch.tensor([0, 1]))),
            ValueError,
            "equal length",
        ),
        (lambda: merge_hits([], 3), ValueError, "no hits"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_finished_search_takes_no_more_documents():
    search = StreamingSearch(torch.ones(1, 2), 1, "dot")
    search.add(torch.ones(1, 2))
    assert search.result() is search.result()
    with pytest.raises(RuntimeError, match="after result"):
        search.add(torch.ones(1, 2))


def test_a_search_leaves_its_inputs_alone_and_works_across_inference_mode():
    queries, documents = torch.rand(3, 4).requires_grad_(), torch.rand(5, 4)
    before = queries.detach().clone(), documents.clone()
    with torch.inference_mode():
        search = StreamingSearch(queries, 2, "cosine")
        search.add(documents[:2])
    search.add(documents[2:])
    assert not search.result().scores.requires_grad
    assert torch.equal(queries.detach(), before[0])
    assert torch.equal(documents, before[1])


@given(
    num_values=st.sampled_from([2, 5, 1000]),
    owners=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    k=st.sampled_from([1, 4, 20, 80]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=80)
def test_merged_shards_equal_one_search_whoever_owns_a_document(num_values, owners, k, seed):
    scores = np.random.default_rng(seed).integers(0, num_values, (3, len(owners))).astype(np.float32)
    whole = search_table(scores, k, [1000], track_ties=True)
    hits, num_tied = [], []
    for owner in range(3):
        owned = np.flatnonzero(np.array(owners) == owner)
        part = search_table(scores[:, owned], k, [1000], track_ties=True)
        positions = part.result().positions
        lookup = torch.from_numpy(np.append(owned, -1))
        hits.append(Hits(part.result().scores, lookup[positions]))
        num_tied.append(part.num_tied)
    merged = merge_hits(hits, k)
    assert torch.equal(merged.positions, whole.result().positions)
    assert torch.equal(merged.scores, whole.result().scores)
    assert torch.equal(merge_num_tied(hits, num_tied, merged), whole.num_tied)


@pytest.mark.parametrize("start", [0, 2**31 - 3, 2**40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_hits_are_those_of_a_plain_sort_whatever_positions_and_signs(start, dtype):
    generator = torch.Generator().manual_seed(1)
    values = torch.tensor([3.0, -0.0, 0.0, -1.5, float("inf"), float("-inf"), 1e-40])
    scores = values[torch.randint(0, len(values), (4, 30), generator=generator)].to(dtype)
    positions = torch.stack([torch.randperm(30, generator=generator) for _ in range(4)]) + start
    parts = [Hits(scores[:, part], positions[:, part]) for part in (slice(0, 11), slice(11, 30))]
    found = merge_hits(parts, 12)
    for row in range(4):
        pairs = zip(scores[row].tolist(), positions[row].tolist(), strict=True)
        expected = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:12]
        assert found.positions[row].tolist() == [position for _, position in expected]
        assert found.scores[row].tolist() == [score for score, _ in expected]
