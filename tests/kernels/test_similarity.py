"""Similarities: all pairs, listed pairs, and blocks for a fixed set of queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util

from st_eval_callbacks.kernels import product
from st_eval_callbacks.kernels.pairwise import pairwise
from st_eval_callbacks.kernels.product import full_precision, product_for
from st_eval_callbacks.kernels.similarity import SIMILARITY_NAMES, QueryScorer, all_pairs

ST_ALL_PAIRS = {
    "cosine": util.cos_sim,
    "dot": util.dot_score,
    "euclidean": util.euclidean_sim,
    "manhattan": util.manhattan_sim,
}
ST_PAIRWISE = {
    "cosine": util.pairwise_cos_sim,
    "dot": util.pairwise_dot_score,
    "euclidean": util.pairwise_euclidean_sim,
    "manhattan": util.pairwise_manhattan_sim,
}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def slow_score(name: str, left: np.ndarray, right: np.ndarray) -> float:
    if name == "dot":
        return float(left @ right)
    if name == "cosine":
        lengths = [max(float(np.sqrt(side @ side)), 1e-12) for side in (left, right)]
        return float((left / lengths[0]) @ (right / lengths[1]))
    difference = np.abs(left - right)
    return -float(difference.sum() if name == "manhattan" else np.sqrt((difference**2).sum()))


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
@pytest.mark.parametrize(("num_queries", "num_documents", "dim"), [(1, 1, 1), (3, 5, 4), (40, 70, 33)])
def test_all_pairs_equals_the_definition_and_sentence_transformers(name, num_queries, num_documents, dim):
    queries, documents = random(num_queries, dim), random(num_documents, dim, seed=1)
    scores = all_pairs(name, queries, documents)
    slow = [[slow_score(name, q, d) for d in documents.double().numpy()] for q in queries.double().numpy()]
    np.testing.assert_allclose(scores.numpy(), slow, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores, ST_ALL_PAIRS[name](queries, documents), rtol=1e-6, atol=1e-6)


@given(
    num_pairs=st.integers(0, 50),
    dim=st.integers(1, 40),
    block_size=st.integers(1, 60),
    indexed=st.tuples(st.booleans(), st.booleans()),
)
@settings(deadline=None, max_examples=60)
def test_pairwise_equals_sentence_transformers_for_every_index_and_block_size(num_pairs, dim, block_size, indexed):
    tables = [random(7 if is_indexed else num_pairs, dim, seed=2) for is_indexed in indexed]
    rows = torch.randint(0, 7, (2, num_pairs), generator=torch.Generator().manual_seed(num_pairs))
    indexes = [index if is_indexed else None for index, is_indexed in zip(rows, indexed, strict=True)]
    scores = pairwise(SIMILARITY_NAMES, *tables, *indexes, block_size=block_size)
    left, right = (table if index is None else table[index] for table, index in zip(tables, indexes, strict=True))
    assert list(scores) == list(SIMILARITY_NAMES)
    for name in SIMILARITY_NAMES:
        torch.testing.assert_close(scores[name], ST_PAIRWISE[name](left, right), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_pairs_of_equal_rows_have_equal_scores_whatever_the_block(name):
    table = random(5, 100)
    left, right = torch.randint(0, 5, (2, 3001), generator=torch.Generator().manual_seed(0))
    scores = pairwise([name], table, table, left, right, block_size=257)[name]
    pair = left * 5 + right
    for value in pair.unique():
        assert scores[pair == value].unique().numel() == 1


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_as_if_widened_first(name, dtype):
    left, right = random(20, 48, dtype=dtype), random(20, 48, seed=1, dtype=dtype)
    wide = left.float(), right.float()
    assert torch.equal(all_pairs(name, left, right), all_pairs(name, *wide))
    assert torch.equal(pairwise([name], left, right)[name], pairwise([name], *wide)[name])


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_float64_stays_float64_and_integers_become_float32(name):
    left, right = random(3, 4, dtype=torch.float64), random(3, 4, seed=1, dtype=torch.float64)
    for scores in (all_pairs(name, left, right), pairwise([name], left, right)[name]):
        assert scores.dtype == torch.float64
    whole = torch.tensor([[1, 2], [3, 4]])
    for scores in (all_pairs(name, whole, whole), pairwise([name], whole, whole)[name]):
        assert scores.dtype == torch.float32


def test_bfloat16_neighbours_are_not_tied():
    documents = torch.tensor([[1, 1], [1, 1.0078125]], dtype=torch.bfloat16)
    assert all_pairs("dot", documents[:1], documents).tolist() == [[2.0, 2.0078125]]


def test_float16_products_above_its_range_are_finite():
    documents = torch.tensor([[250, 0], [300, 0]], dtype=torch.float16)
    assert all_pairs("dot", documents[1:], documents).tolist() == [[75000.0, 90000.0]]


def test_a_row_of_zeros_has_cosine_zero():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert all_pairs("cosine", rows, rows)[0].tolist() == [0.0, 0.0]
    assert pairwise(["cosine"], rows, rows.flip(0))["cosine"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_scores_carry_no_gradient_and_inputs_are_left_alone(name):
    left, right = random(4, 5).requires_grad_(), random(4, 5, seed=1).requires_grad_()
    before = left.detach().clone()
    assert not all_pairs(name, left, right).requires_grad
    assert not pairwise([name], left, right)[name].requires_grad
    assert torch.equal(left, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_pairs("cosin", torch.ones(1, 2), torch.ones(1, 2)), "Did you mean 'cosine'"),
        (
            lambda: pairwise(["max"], torch.ones(1, 2), torch.ones(1, 2)),
            "cosine, dot, euclidean, manhattan",
        ),
        (lambda: all_pairs("dot", torch.ones(1, 2), torch.ones(1, 3)), r"\(1, 2\) and \(1, 3\)"),
        (lambda: pairwise(["dot"], torch.ones(2), torch.ones(2)), r"\(2,\)"),
        (lambda: pairwise(["dot"], torch.ones(2, 3), torch.ones(1, 3)), "different numbers"),
    ],
)
def test_wrong_arguments_say_what_was_given_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
@pytest.mark.parametrize("dim", [2, 16, 17, 100])
def test_block_scores_equal_all_pairs(name, dim):
    queries, documents = random(30, dim), random(64, dim, seed=1)
    scorer = QueryScorer(name, queries)
    block = torch.zeros(64, scorer.width)
    block[:, :dim] = documents
    scorer.prepare(block)
    scores = scorer.score(slice(10, 30), block, torch.empty(20, 64))
    expected = ST_ALL_PAIRS[name](queries[10:].double(), documents.double())
    torch.testing.assert_close(scores.double(), expected, rtol=1e-5, atol=1e-5)


def test_euclidean_agrees_with_cdist_to_a_hundred_thousandth():
    queries, documents = random(50, 384), random(512, 384, seed=1)
    scorer = QueryScorer("euclidean", queries)
    block = torch.zeros(512, scorer.width)
    block[:, :384] = documents
    scorer.prepare(block)
    scores = scorer.score(slice(0, 50), block, torch.empty(50, 512))
    torch.testing.assert_close(scores, -torch.cdist(queries, documents), rtol=1e-5, atol=0)


def test_products_are_full_float32_under_autocast_and_reduced_precision_settings():
    queries, documents = random(64, 96), random(512, 96, seed=1)
    exact = queries.double() @ documents.double().T
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = all_pairs("dot", queries, documents)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert scores.dtype == torch.float32
    assert (scores - exact).abs().max() < 1e-4


def test_settings_return_after_an_error():
    def fail():
        with full_precision(torch.device("cpu")):
            assert not torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            raise KeyError

    with torch.inference_mode():
        with pytest.raises(KeyError):
            fail()
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kernel", [product._mm, product._onednn])
@pytest.mark.parametrize("dim", [3, 384])
def test_every_product_kernel_gives_a_repeated_document_one_score_in_whole_tiles(kernel, dim):
    queries, document = random(37, dim), random(1, dim, seed=1)
    scores = {size: kernel(queries, document.repeat(size, 1), torch.empty(37, size)) for size in (512, 4096)}
    for values in scores.values():
        assert torch.equal(values, scores[512][:, :1].expand_as(values))


def test_another_kernel_is_taken_only_if_clearly_faster_and_as_accurate(monkeypatch):
    def times(seconds):
        return lambda kernel, *_: seconds[kernel]

    cases = [(1.0, 0.5, product._onednn), (1.0, 0.9, product._mm), (1.0, 2.0, product._mm)]
    for of_mm, of_onednn, expected in cases:
        monkeypatch.setattr(product, "_time", times({product._mm: of_mm, product._onednn: of_onednn}))
        assert product._fastest.__wrapped__(32) is expected

    def rounded(queries, documents, out):
        return (queries.bfloat16() @ documents.bfloat16().T).float()

    monkeypatch.setattr(product, "_onednn", rounded)
    monkeypatch.setattr(product, "_time", times({product._mm: 1.0, rounded: 0.1}))
    assert product._fastest.__wrapped__(32) is product._mm


def test_choosing_a_kernel_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    product._fastest.__wrapped__(8)
    assert torch.equal(torch.get_rng_state(), before)
    assert product_for(8, torch.float64, torch.device("cpu")) is product._mm


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0, 3])
def test_rows_that_follow_one_another_score_bit_for_bit_as_rows_read_by_index(dtype, offset):
    queries, documents = random(4, 33, seed=1).to(dtype), random(40, 33, seed=2).to(dtype)
    left = torch.arange(4).repeat_interleave(9)
    right = torch.arange(36) + offset
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    for names in (["cosine"], list(SIMILARITY_NAMES)):
        run = pairwise(names, queries, documents, left, right, block_size=7)
        mixed = pairwise(names, queries, documents, left[order], right[order], block_size=5)
        copied = pairwise(names, queries[left], documents[right])
        for name in names:
            assert torch.equal(run[name][order], mixed[name])
            assert torch.equal(run[name], copied[name])
    assert torch.equal(queries, random(4, 33, seed=1).to(dtype))
    assert torch.equal(documents, random(40, 33, seed=2).to(dtype))


def test_pairs_can_be_scored_in_inference_mode():
    with torch.inference_mode():
        table = random(5, 8)
        scores = pairwise(SIMILARITY_NAMES, table, table, torch.arange(5), torch.zeros(5, dtype=torch.int64))
    for name in SIMILARITY_NAMES:
        torch.testing.assert_close(scores[name], ST_PAIRWISE[name](table, table[:1]), rtol=1e-5, atol=1e-5)
