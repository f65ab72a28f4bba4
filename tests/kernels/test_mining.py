"""Mining of pairs, its metrics, and matching of two lists, against slow loops and sentence-transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util
from sentence_transformers.sentence_transformer.evaluation import ParaphraseMiningEvaluator, TranslationEvaluator

from st_eval_callbacks.kernels import matching, mining
from st_eval_callbacks.kernels.mining import match_accuracy, mine_pairs, mining_metrics


class ReadyModel:
    """Gives out embeddings by text, as much of a model as sentence-transformers' evaluators need."""

    def __init__(self, embeddings: dict[str, torch.Tensor]) -> None:
        self.embeddings = embeddings

    def encode(self, sentences, convert_to_tensor=False, **_):
        rows = [self.embeddings[sentence] for sentence in sentences]
        return torch.stack(rows) if convert_to_tensor else rows


@pytest.fixture(autouse=True)
def _quiet_evaluators(monkeypatch):
    for evaluator in (ParaphraseMiningEvaluator, TranslationEvaluator):
        monkeypatch.setattr(evaluator, "store_metrics_in_model_card_data", lambda *_: None)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(values: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(values, dtype=torch.int64), 4).float()


def slow_pairs(embeddings: torch.Tensor, max_pairs: int, top_k: int) -> list[tuple[int, int]]:
    scores = util.cos_sim(embeddings, embeddings).numpy()
    pairs = set()
    for row in range(len(scores)):
        others = [other for other in range(len(scores)) if other != row]
        near = sorted(others, key=lambda other: (-scores[min(row, other), max(row, other)], other))[:top_k]
        pairs |= {(min(row, other), max(row, other)) for other in near}
    return sorted(pairs, key=lambda pair: (-scores[pair], pair))[:max_pairs]


def as_pairs(mined: mining.MinedPairs) -> list[tuple[int, int]]:
    return list(zip(mined.left.tolist(), mined.right.tolist(), strict=True))


@pytest.fixture(params=[32, 1024])
def block_of(request, monkeypatch):
    monkeypatch.setattr(mining, "_BLOCK", request.param)
    return request.param


@pytest.mark.parametrize("num_rows", [2, 3, 31, 33, 150])
@pytest.mark.parametrize("max_pairs", [1, 40, 500_000])
@pytest.mark.parametrize("top_k", [1, 5, 100])
@pytest.mark.usefixtures("block_of")
def test_mined_pairs_are_those_of_sentence_transformers(num_rows, max_pairs, top_k):
    embeddings = random(num_rows, 7, seed=num_rows)
    mined = mine_pairs(embeddings, max_pairs, top_k)
    expected = util.paraphrase_mining_embeddings(embeddings, 37, 41, max_pairs=max_pairs, top_k=top_k)
    assert as_pairs(mined) == [(left, right) for _, left, right in expected]
    np.testing.assert_allclose(mined.scores.numpy(), [score for score, *_ in expected], atol=1e-12)


@given(
    values=st.lists(st.integers(0, 3), min_size=0, max_size=90),
    max_pairs=st.sampled_from([1, 7, 200, 500_000]),
    top_k=st.sampled_from([1, 2, 10, 100]),
    block=st.sampled_from([32, 1024]),
)
@settings(deadline=None, max_examples=100)
def test_ties_are_ordered_by_left_then_right_in_both_limits(values, max_pairs, top_k, block):
    embeddings = one_hot(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "_BLOCK", block)
        mined = mine_pairs(embeddings, max_pairs, top_k)
    assert as_pairs(mined) == slow_pairs(embeddings, max_pairs, top_k)


@pytest.mark.usefixtures("block_of")
def test_all_rows_equal_gives_each_pair_once():
    mined = mine_pairs(torch.ones(70, 3), max_pairs=100, top_k=5)
    assert as_pairs(mined) == slow_pairs(torch.ones(70, 3), 100, 5)
    assert mined.scores.unique().numel() == 1


@pytest.mark.parametrize("num_rows", [100, 1025, 2100])
def test_equal_pairs_of_texts_have_equal_scores_wherever_they_stand(num_rows):
    embeddings = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    kind = torch.randint(0, 4, (num_rows,), generator=torch.Generator().manual_seed(1))
    mined = mine_pairs(embeddings[kind], top_k=60)
    texts = torch.minimum(kind[mined.left], kind[mined.right]) * 4 + torch.maximum(kind[mined.left], kind[mined.right])
    for pair in texts.unique():
        assert mined.scores[texts == pair].unique().numel() == 1


def test_rows_with_nan_are_in_no_pair():
    embeddings = torch.tensor([[1.0, 0.0], [float("nan"), 0.0], [0.0, 1.0]])
    mined = mine_pairs(embeddings)
    assert as_pairs(mined) == [(0, 2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mined_as_if_widened(dtype):
    embeddings = random(60, 9, seed=3).to(dtype)
    for given_values, expected in zip(mine_pairs(embeddings), mine_pairs(embeddings.float()), strict=True):
        assert torch.equal(given_values, expected)


def test_nothing_to_mine_gives_no_pairs():
    for mined in (
        mine_pairs(torch.ones(0, 3)),
        mine_pairs(torch.ones(1, 3)),
        mine_pairs(torch.ones(5, 3), max_pairs=0),
        mine_pairs(torch.ones(5, 3), top_k=0),
    ):
        assert [values.numel() for values in mined] == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mine_pairs(torch.ones(3)), r"\(3,\)"),
        (lambda: mine_pairs(torch.ones(3, 2), max_pairs=-1), "-1 and 100"),
        (lambda: mining_metrics(torch.ones(2), torch.ones(3), 1), "equal length"),
        (lambda: mining_metrics(torch.ones(2), torch.tensor([0.0, 1.0]), 1), "descending"),
        (lambda: match_accuracy(torch.ones(2, 3), torch.ones(3, 3), torch.ones(2), torch.ones(2)), r"\(3, 3\)"),
        (lambda: match_accuracy(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2), torch.ones(1)), "one id"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(
    num_rows=st.integers(2, 25),
    num_duplicates=st.integers(0, 20),
    levels=st.sampled_from([2, 5, 10**6]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=80)
def test_mining_metrics_equal_the_evaluator_of_sentence_transformers(num_rows, num_duplicates, levels, seed):
    rng = np.random.default_rng(seed)
    embeddings = torch.from_numpy(rng.integers(0, levels, (num_rows, 2)).astype(np.float64))
    ids = [str(row) for row in range(num_rows)]
    chosen = {tuple(sorted(rng.choice(num_rows, 2, replace=False).tolist())) for _ in range(num_duplicates)}
    evaluator = ParaphraseMiningEvaluator(
        dict(zip(ids, ids, strict=True)), [(ids[left], ids[right]) for left, right in chosen], write_csv=False
    )
    expected = evaluator(ReadyModel(dict(zip(ids, embeddings, strict=True))))
    pairs = util.paraphrase_mining_embeddings(embeddings)
    scores = torch.tensor([score for score, *_ in pairs], dtype=torch.float64)
    is_duplicate = torch.tensor([(left, right) in chosen for _, left, right in pairs], dtype=torch.bool)
    metrics = mining_metrics(is_duplicate, scores, len(chosen))
    assert metrics == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-12)
    if metrics["f1"]:
        taken = is_duplicate[scores >= metrics["threshold"]]
        precision, recall = taken.double().mean().item(), taken.sum().item() / len(chosen)
        assert (precision, recall) == pytest.approx((metrics["precision"], metrics["recall"]))


def test_pairs_with_equal_scores_share_a_threshold():
    mined = mine_pairs(torch.ones(3, 2))
    is_duplicate = (mined.left == 0) & (mined.right == 1)
    metrics = mining_metrics(is_duplicate, mined.scores, 1)
    assert metrics["average_precision"] == pytest.approx(1 / 3)
    assert (metrics["f1"], metrics["precision"], metrics["recall"]) == pytest.approx((0.5, 1 / 3, 1.0))


def test_undefined_and_empty_mining_metrics():
    scores = torch.tensor([1.0, float("nan")])
    assert all(math.isnan(value) for value in mining_metrics(torch.tensor([True, True]), scores, 2).values())
    nothing = torch.empty(0)
    for metrics in (
        mining_metrics(nothing.bool(), nothing, 3),
        mining_metrics(torch.tensor([False]), torch.tensor([1.0]), 1),
        mining_metrics(torch.tensor([True]), torch.tensor([1.0]), 0),
    ):
        assert set(metrics.values()) == {0.0}


@pytest.fixture(params=[(512, 4096), (3, 5)])
def match_blocks(request, monkeypatch):
    monkeypatch.setattr(matching, "_BLOCK_ROWS", request.param[0])
    monkeypatch.setattr(matching, "_MAX_BLOCK_COLUMNS", request.param[1])
    monkeypatch.setattr(matching, "_TILE", min(request.param[1], matching._TILE))


def ids_of(texts: list[str]) -> torch.Tensor:
    return torch.tensor([texts.index(text) for text in texts], dtype=torch.int64)


@pytest.mark.usefixtures("match_blocks")
@pytest.mark.parametrize("seed", range(6))
def test_matches_equal_the_evaluator_of_sentence_transformers(seed):
    rng = np.random.default_rng(seed)
    num_rows = int(rng.integers(1, 40))
    kinds = [(side, int(rng.integers(1, 12))) for side in "st"]
    texts = [[f"{side}{value}" for value in rng.integers(0, kind, num_rows)] for side, kind in kinds]
    # Few distinct vectors: different texts tie, and the first maximum decides.
    vectors = {text: one_hot([int(rng.integers(0, 4))])[0] for side in texts for text in side}
    evaluator = TranslationEvaluator(*texts, write_csv=False)
    expected = evaluator(ReadyModel(vectors))
    embeddings = [torch.stack([vectors[text] for text in side]) for side in texts]
    forward, backward = match_accuracy(*embeddings, *(ids_of(side) for side in texts))
    assert forward.correct.double().mean().item() == expected["src2trg_accuracy"]
    assert backward.correct.double().mean().item() == expected["trg2src_accuracy"]


@pytest.mark.usefixtures("match_blocks")
@pytest.mark.parametrize("levels", [2, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_best_match_is_the_first_maximum_in_both_directions(levels, dtype):
    generator = torch.Generator().manual_seed(levels)
    source, target = (torch.randint(1, levels + 1, (37, 3), generator=generator).to(dtype) for _ in range(2))
    scores = util.cos_sim(source.double(), target.double())
    ids = torch.arange(37)
    for match, table in zip(match_accuracy(source, target, ids, ids), (scores, scores.T), strict=True):
        torch.testing.assert_close(match.best_score.double(), table.amax(dim=1), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(table.gather(1, match.best_index[:, None])[:, 0], table.amax(dim=1))
        assert torch.equal(match.correct, match.best_index == ids)


def test_repeated_texts_count_as_right():
    texts = ["cat", "hello", "dog", "hello"]
    embeddings = one_hot([0, 1, 2, 1])
    for match in match_accuracy(embeddings, embeddings, ids_of(texts), ids_of(texts)):
        assert match.correct.all()
        assert match.best_index.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize("num_rows", [700, 4500])
def test_a_repeated_vector_is_matched_at_its_first_place(num_rows):
    vector = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(num_rows, 1)
    ids = torch.arange(num_rows)
    for match in match_accuracy(vector, vector, ids, ids):
        assert match.best_index.sum() == 0
        assert match.correct.sum() == 1


def test_nan_scores_are_seen_in_the_best_scores():
    source = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    forward, backward = match_accuracy(source, target, torch.arange(2), torch.arange(2))
    assert forward.best_score.isnan().tolist() == [False, True]
    assert backward.best_score.isnan().all()


def test_two_empty_lists_have_no_matches():
    nothing, no_ids = torch.ones(0, 3), torch.ones(0, dtype=torch.int64)
    for match in match_accuracy(nothing, nothing, no_ids, no_ids):
        assert match.correct.shape == (0,)
