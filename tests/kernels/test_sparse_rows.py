"""Sparse rows beside the dense kernels: the same values in whatever portions, and no dense matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from st_eval_callbacks.kernels import sparse_product
from st_eval_callbacks.kernels.matching import match_accuracy
from st_eval_callbacks.kernels.similarity import SIMILARITY_NAMES
from st_eval_callbacks.kernels.sparse_pairwise import sparse_pairwise
from st_eval_callbacks.kernels.sparse_rows import SparseRows
from st_eval_callbacks.kernels.sparse_search import SparseSearch
from st_eval_callbacks.kernels.sparsity import Usage, pooled
from st_eval_callbacks.kernels.tables import all_pairs, num_nonfinite, pairwise
from st_eval_callbacks.kernels.topk import StreamingSearch

WIDTH = 40
functions = pytest.mark.parametrize("name", SIMILARITY_NAMES)


def table(num: int, seed: int = 0, *, width: int = WIDTH, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values of both signs, a fifth of them not 0; every seventh row is empty, and some rows are equal."""
    random = torch.Generator().manual_seed(seed)
    found = torch.randn(num, width, generator=random) * (torch.rand(num, width, generator=random) < 0.2)
    found[::7] = 0
    found[3::11] = found[1:2]
    return found.to(dtype)


def searched(rows: SparseRows, parts: list[SparseRows], name: Any, k: int = 6, **settings: Any) -> SparseSearch:
    search = SparseSearch(rows, k, name, **settings)
    for part in parts:
        search.add(part)
    search.result()
    return search


@pytest.fixture(params=["mkl", "listed", "tiles"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which queries meet documents: two on a CPU, one elsewhere."""
    if request.param != "mkl":
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
        monkeypatch.setattr(sparse_product, "_MAX_LISTED", 50)
    if request.param == "tiles":
        monkeypatch.setattr(sparse_product, "_turned", lambda *_: None)
        monkeypatch.setattr(sparse_product, "_MAX_TILE", 512 * WIDTH)
    return str(request.param)


@pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
@pytest.mark.parametrize("num", [0, 1, 9])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_rows_come_from_any_layout_and_back(layout: str, num: int) -> None:
    dense = table(num)
    given = {"dense": dense, "coo": dense.to_sparse(), "csr": dense.to_sparse_csr()}[layout]
    rows = SparseRows.of(given)
    assert (len(rows), rows.shape, rows.width) == (num, (num, WIDTH), WIDTH)
    assert torch.equal(rows.dense(), dense)
    assert torch.equal(rows.as_tensor().to_dense(), dense)
    assert [torch.equal(one.to_dense(), row) for one, row in zip(rows.as_vectors(), dense, strict=True)] == [
        True
    ] * num
    assert rows.counts.tolist() == (dense != 0).sum(dim=1).tolist()


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, V\)"):
        SparseRows.of(torch.zeros(3))


@pytest.mark.parametrize("index", [[], [4], [3, 3, 0, 8], list(range(9))])
def test_rows_are_taken_cut_and_joined_as_those_of_a_matrix(index: list[int]) -> None:
    dense = table(9)
    rows, chosen = SparseRows.of(dense), torch.tensor(index, dtype=torch.int64)
    assert torch.equal(rows.take(chosen).dense(), dense[chosen])
    for start, stop in [(0, 9), (2, 5), (4, 4), (9, 9), (7, 9)]:
        assert torch.equal(rows.part(start, stop).dense(), dense[start:stop])
    assert torch.equal(rows.take(chosen).joined([rows, rows.part(3, 3)]).dense(), torch.cat([dense[chosen], dense]))
    assert torch.equal(rows.truncated(11).dense(), dense[:, :11])
    assert rows.truncated(WIDTH + 1).width == WIDTH
    assert rows.num_bytes == 8 * 10 + 8 * int((dense != 0).sum())
    with pytest.raises(ValueError, match="40, 11"):
        rows.joined([rows.truncated(11)])


def test_rows_of_all_processes_are_gathered() -> None:
    rows = SparseRows.of(table(5))
    other = SparseRows.of(table(3, 1))
    pairs = {id(one): two for one, two in zip(rows.tensors(), other.tensors(), strict=True)}
    found = rows.gathered(lambda tensor: [tensor, pairs[id(tensor)]])
    assert [torch.equal(one.dense(), two.dense()) for one, two in zip(found, [rows, other], strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_are_normalised_in_the_type_they_are_scored_in(dtype: torch.dtype) -> None:
    dense = table(9, dtype=dtype)
    found = SparseRows.of(dense).normalised()
    wanted = dense if dtype == torch.float64 else dense.float()
    assert found.values.dtype == wanted.dtype
    torch.testing.assert_close(found.dense(), torch.nn.functional.normalize(wanted, dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("names", [*([name] for name in SIMILARITY_NAMES), list(SIMILARITY_NAMES)])
def test_pairs_have_the_scores_of_dense_pairs_whatever_the_blocks(names: list[str], dtype: torch.dtype) -> None:
    left, right = table(30, dtype=dtype), table(20, 1, dtype=dtype)
    index = torch.randint(20, (50,), generator=torch.Generator().manual_seed(0))
    wanted = pairwise(names, left, right, index, index.flip(0))
    each = [
        sparse_pairwise(names, SparseRows.of(left), SparseRows.of(right), index, index.flip(0), block_size)
        for block_size in (None, 1, 7, 50)
    ]
    for name in names:
        assert each[0][name].dtype == wanted[name].dtype
        torch.testing.assert_close(each[0][name], wanted[name], atol=2e-6, rtol=1e-6)
        assert all(torch.equal(one[name], each[0][name]) for one in each)


def test_pairs_that_follow_one_another_need_no_index() -> None:
    left, right = SparseRows.of(table(12)), SparseRows.of(table(12, 1))
    order = torch.arange(12)
    plain, indexed = (sparse_pairwise(SIMILARITY_NAMES, left, right, *index) for index in ((), (order, order)))
    assert all(torch.equal(plain[name], indexed[name]) for name in plain)
    for given in ((left, right.truncated(5)), (left, right.part(0, 3))):
        with pytest.raises(ValueError, match="width|pairs"):
            sparse_pairwise(["dot"], *given)


def test_equal_rows_are_at_distance_zero() -> None:
    rows = SparseRows.of(table(20))
    for name in ("euclidean", "manhattan"):
        assert pairwise([name], rows, rows)[name].abs().max() == 0
        assert all_pairs(name, rows, rows).diagonal().abs().max() < 2e-7


@functions
def test_a_component_that_is_no_number_makes_every_score_of_its_row_nan(name: str, product: str) -> None:
    left, right = table(9), table(9, 1)
    left[2], right[5], right[7] = 0, 0, 0
    left[2, 0], right[5, 1], right[7, 2] = float("nan"), float("inf"), float("nan")
    first, second = SparseRows.of(left), SparseRows.of(right)
    paired = sparse_pairwise([name], first, second)[name].isnan()
    assert paired.nonzero().flatten().tolist() == [2, 5, 7]
    scores = all_pairs(name, first, second).isnan()
    assert scores[2].all()
    assert scores[:, [5, 7]].all()
    assert scores.sum() == 9 + 2 * 8
    assert (num_nonfinite(first), num_nonfinite(second), num_nonfinite(left)) == (1, 2, 1)
    search = searched(first, [second], name, k=9)
    assert search.nonfinite.all()
    assert set(search.result().positions[0].tolist()) == {0, 1, 2, 3, 4, 6, 8, -1}


@functions
def test_a_search_finds_what_the_dense_search_finds(name: str, product: str) -> None:
    queries, documents = table(23), table(150, 1)
    watch = (torch.tensor([0, 22, 3]), torch.tensor([149, 0, 77]))
    settings: dict[str, Any] = {"track_ties": True, "watch": watch}
    dense = StreamingSearch(queries, 6, name, **settings)
    dense.add(documents)
    hits = dense.result()
    rows = SparseRows.of(documents)
    found = [
        searched(SparseRows.of(queries), [rows.part(s, min(s + size, 150)) for s in range(0, 150, size)], name, **more)
        for size, more in [(150, settings), (1, settings), (37, {**settings, "block_size": 64})]
    ]
    for one in found:
        torch.testing.assert_close(one.result().scores, hits.scores, atol=3e-6, rtol=1e-6)
        assert torch.equal(one.result().positions, hits.positions)
        assert torch.equal(one.num_tied, dense.num_tied)
        torch.testing.assert_close(one.watched_scores, dense.watched_scores, atol=3e-6, rtol=1e-6)
        assert torch.equal(one.result().scores, found[0].result().scores)
        assert one.num_nonfinite == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_search_is_as_precise_as_its_embeddings(dtype: torch.dtype) -> None:
    queries, documents = table(5, dtype=torch.float32), table(30, 1, dtype=dtype)
    hits = searched(SparseRows.of(queries), [SparseRows.of(documents)], "dot").result()
    wanted = (queries.to(hits.scores.dtype) @ documents.to(hits.scores.dtype).T).topk(6).values
    assert hits.scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(hits.scores, wanted, atol=1e-6, rtol=1e-6)


def test_documents_with_one_score_stand_in_their_order() -> None:
    one = torch.tensor([[0.0, 0.7, 0.3]])
    search = searched(SparseRows.of(one), [SparseRows.of(one.repeat(9, 1))] * 2, "cosine", k=4, track_ties=True)
    assert search.result().positions.tolist() == [[0, 1, 2, 3]]
    assert search.num_tied.tolist() == [18]


def test_rows_without_components_score_zero_and_no_documents_are_no_hits() -> None:
    empty = SparseRows.of(torch.zeros(2, 3))
    hits = searched(empty, [empty], "cosine", k=3).result()
    assert hits.scores.tolist() == [[0, 0, -torch.inf]] * 2
    assert hits.positions.tolist() == [[0, 1, -1]] * 2
    assert searched(empty, [], "dot", k=1).result().positions.tolist() == [[-1], [-1]]


@pytest.mark.parametrize("as_sparse", [True, False])
def test_a_function_gets_sparse_tensors_and_may_return_any_layout(as_sparse: bool) -> None:
    given = []

    def doubled(queries: Tensor, documents: Tensor) -> Tensor:
        given.append((queries.layout, documents.layout, tuple(documents.shape)))
        scores = 2 * torch.mm(queries, documents.t())
        return scores if as_sparse else scores.to_dense()

    queries, documents = table(5), table(30, 1)
    hits = searched(SparseRows.of(queries), [SparseRows.of(documents)], doubled, block_size=20).result()
    torch.testing.assert_close(hits.scores, (2 * queries @ documents.T).topk(6).values, atol=1e-5, rtol=0)
    assert given == [(torch.sparse_coo, torch.sparse_coo, (num, WIDTH)) for num in (20, 10)]
    with pytest.raises(ValueError, match=r"must return \(5, 30\) scores"):
        searched(SparseRows.of(queries), [SparseRows.of(documents)], lambda a, b: torch.zeros(2, 2))


def test_what_does_not_fit_is_refused() -> None:
    rows = SparseRows.of(table(4))
    for arguments in ((rows, 0, "dot"), (rows, 1, "dott")):
        with pytest.raises(ValueError, match="k must be|Did you mean 'dot'"):
            SparseSearch(*arguments)
    search = SparseSearch(rows, 1, "dot")
    with pytest.raises(ValueError, match=r"\(B, 40\), got \(4, 7\)"):
        search.add(rows.truncated(7))
    search.result()
    with pytest.raises(RuntimeError, match="result"):
        search.add(rows)
    with pytest.raises(RuntimeError, match="track_ties"):
        _ = search.num_tied
    with pytest.raises(RuntimeError, match="watch"):
        _ = search.watched_scores
    with pytest.raises(ValueError, match="dense embeddings and SparseRows"):
        pairwise(["dot"], table(4), rows)
    ids = torch.arange(4)
    with pytest.raises(ValueError, match="different kinds"):
        match_accuracy(rows, table(4), ids, ids)


def test_matches_are_those_of_dense_embeddings() -> None:
    source, target, ids = table(1100), table(1100, 0) + table(1100, 2) / 4, torch.arange(1100)
    dense = match_accuracy(source, target, ids, ids)
    sparse = match_accuracy(SparseRows.of(source), SparseRows.of(target), ids, ids)
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(one.best_score, other.best_score, atol=1e-6, rtol=0)
        assert (one.best_index == other.best_index).float().mean() > 0.99


def test_columns_are_counted_over_parts_and_processes() -> None:
    dense = table(20)
    parts = [Usage.of(SparseRows.of(part)) for part in dense.split(6)]
    whole = pooled(parts)
    assert whole.num_rows == 20
    assert torch.equal(whole.counts, (dense != 0).sum(dim=0))
    assert whole.active_dims == pytest.approx(float((dense != 0).double().sum(dim=1).mean()))
    assert whole.sparsity_ratio == pytest.approx(float((dense == 0).double().mean()))
    both = parts[0].gathered(lambda tensor: [tensor, tensor])
    assert (both.num_rows, both.active_dims) == (12, parts[0].active_dims)
    assert (Usage.none(5).active_dims, Usage.none(5).sparsity_ratio, Usage.none(WIDTH).flops(whole)) == (0, 1, 0)


def test_nothing_is_as_large_as_documents_times_vocabulary() -> None:
    # As dense matrices these would take 80 GB.
    num, width = 20_000, 2**20
    random = torch.Generator().manual_seed(0)
    columns = torch.randint(width, (num, 4), generator=random).sort(dim=1).values.int().flatten()
    rows = SparseRows(torch.arange(0, 4 * num + 1, 4), columns, torch.ones(4 * num), width)
    hits = searched(rows.part(0, 40), [rows], "dot", k=1).result()
    assert hits.positions.flatten().tolist() == list(range(40))
    assert (rows.normalised().lengths() - 1).abs().max() < 1e-6
    order = torch.arange(1000)
    assert (sparse_pairwise(["cosine"], rows, rows, order, order)["cosine"] - 1).abs().max() < 1e-6
