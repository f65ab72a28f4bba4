"""segment_metrics against scikit-learn and against brute force over orders of ties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from st_eval_callbacks.kernels.segments import segment_metrics

CANDIDATES = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=7)
LISTS = st.lists(CANDIDATES, min_size=1, max_size=6)
DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


def flat(lists, dtype=torch.float32, binary=False):
    scores = torch.tensor([score * 0.5 for one in lists for score, _ in one], dtype=dtype)
    gains = torch.tensor([min(gain, 1) if binary else gain for one in lists for _, gain in one])
    offsets = torch.tensor([0, *np.cumsum([len(one) for one in lists]).tolist()])
    return scores, gains, offsets


def parts(values, offsets):
    return [part.double().numpy() for part in torch.tensor_split(values, offsets[1:-1])]


@settings(deadline=None)
@given(LISTS, DTYPES, st.integers(1, 9))
def test_average_precision_is_that_of_scikit_learn(lists, dtype, at_k):
    scores, gains, offsets = flat(lists, dtype, binary=True)
    values = segment_metrics(scores, gains, offsets, at_k)["map"]
    for value, score, gain in zip(values, parts(scores, offsets), parts(gains, offsets), strict=True):
        if gain.any():
            assert value.item() == pytest.approx(average_precision_score(gain, score), abs=1e-12)
        else:
            assert value.isnan()


@settings(deadline=None)
@given(LISTS, DTYPES, st.integers(1, 9), st.booleans())
def test_ndcg_is_that_of_scikit_learn_for_binary_and_graded_gains(lists, dtype, at_k, binary):
    scores, gains, offsets = flat(lists, dtype, binary)
    values = segment_metrics(scores, gains, offsets, at_k)["ndcg"]
    for value, score, gain in zip(values, parts(scores, offsets), parts(gains, offsets), strict=True):
        if gain.any():
            assert value.item() == pytest.approx(ndcg_score([gain], [score], k=at_k), abs=1e-12)
        else:
            assert value.isnan()


@settings(deadline=None, max_examples=40)
@given(CANDIDATES, st.integers(1, 6))
def test_mrr_is_the_mean_over_all_orders_of_ties(candidates, at_k):
    scores, gains, offsets = flat([candidates])
    places = []
    for order in permutations(range(len(candidates))):
        ranked = sorted(order, key=lambda i: -candidates[i][0])
        places.append(next((1 / (p + 1) for p, i in enumerate(ranked[:at_k]) if candidates[i][1] > 0), 0.0))
    value = segment_metrics(scores, gains, offsets, at_k)["mrr"].item()
    assert value == pytest.approx(np.mean(places), abs=1e-12)


@settings(deadline=None)
@given(LISTS, st.integers(0, 2**32 - 1))
def test_values_do_not_depend_on_the_order_of_candidates(lists, seed):
    shuffled = [[one[i] for i in np.random.default_rng(seed).permutation(len(one))] for one in lists]
    left, right = segment_metrics(*flat(lists), 3), segment_metrics(*flat(shuffled), 3)
    for name in left:
        torch.testing.assert_close(left[name], right[name], equal_nan=True, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(LISTS, st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(1, 9))
def test_positives_missing_from_a_list_count_as_ranked_nowhere(lists, missing, at_k):
    scores, gains, offsets = flat(lists, binary=True)
    held = [int(gain.sum()) for gain in parts(gains, offsets)]
    counts = torch.tensor([h + m for h, m in zip(held, missing, strict=False)])
    values = segment_metrics(scores, gains, offsets, at_k, num_relevant=counts)
    plain = segment_metrics(scores, gains, offsets, at_k)
    discounts = np.concatenate(([0], np.cumsum(1 / np.log2(np.arange(2, at_k + 2)))))
    for s, (h, count) in enumerate(zip(held, counts.tolist(), strict=True)):
        if count == 0:
            assert values["map"][s].isnan()
            assert values["ndcg"][s].isnan()
            continue
        map_, ndcg = (plain["map"][s].item(), plain["ndcg"][s].item()) if h else (0.0, 0.0)
        assert values["map"][s].item() == pytest.approx(map_ * h / count, abs=1e-12)
        ideal = discounts[min(h, at_k)] / discounts[min(count, at_k)]
        assert values["ndcg"][s].item() == pytest.approx(ndcg * ideal, abs=1e-12)
    assert values["mrr"].tolist() == plain["mrr"].tolist()


def test_graded_gains_with_a_missing_positive_have_it_in_the_ideal_with_gain_one():
    values = segment_metrics(
        torch.tensor([0.9, 0.1]), torch.tensor([0.5, 3.0]), torch.tensor([0, 2]), 10, num_relevant=torch.tensor([3])
    )
    discounts = 1 / np.log2([2, 3, 4])
    expected = (0.5 * discounts[0] + 3 * discounts[1]) / np.dot([3, 1, 0.5], discounts)
    assert values["ndcg"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("positive_at", range(4))
def test_four_equal_scores_give_the_same_values_wherever_the_positive_stands(positive_at):
    gains = torch.zeros(4)
    gains[positive_at] = 1
    values = segment_metrics(torch.ones(4), gains, torch.tensor([0, 4]), 10)
    assert values["mrr"].item() == pytest.approx(0.5208, abs=5e-5)
    assert values["map"].item() == 0.25
    assert values["ndcg"].item() == pytest.approx(0.6404, abs=5e-5)


def test_scores_that_differ_in_the_last_bit_are_not_tied():
    for dtype in (torch.float32, torch.float64):
        low = torch.tensor(0.7, dtype=dtype)
        high = torch.nextafter(low, torch.tensor(1.0, dtype=dtype))
        values = segment_metrics(torch.stack((low, high)), torch.tensor([0, 1]), torch.tensor([0, 2]), 10)
        assert values["mrr"].item() == 1.0


def test_minus_zero_ties_with_zero():
    values = segment_metrics(torch.tensor([0.0, -0.0]), torch.tensor([1, 0]), torch.tensor([0, 2]), 10)
    assert values["map"].item() == 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_score_makes_its_list_nan_and_no_other(bad):
    scores = torch.tensor([1.0, bad, 1.0, 0.5])
    values = segment_metrics(scores, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 2, 4]), 10)
    for value in values.values():
        assert value[0].isnan()
        assert value[1] == 1


def test_empty_lists_are_allowed_between_others():
    offsets = torch.tensor([0, 0, 2, 2])
    values = segment_metrics(torch.tensor([1.0, 0.5]), torch.tensor([1, 0]), offsets, 10)
    assert values["map"].isnan().tolist() == [True, False, True]
    assert values["mrr"].tolist() == [0, 1, 0]
    none = segment_metrics(torch.tensor([]), torch.tensor([]), torch.tensor([0]), 10)
    assert [len(value) for value in none.values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("scores", "relevance", "offsets", "at_k", "num_relevant", "message"),
    [
        ([1.0, 2.0], [1], [0, 2], 10, None, "scores and relevance"),
        ([1.0, 2.0], [1, 0], [0, 1], 10, None, "offsets"),
        ([1.0, 2.0], [1, 0], [0, 2, 1, 2], 10, None, "offsets"),
        ([1.0, 2.0], [1, 0], [0, 2], 0, None, "at_k"),
        ([1.0, 2.0], [1, 1], [0, 2], 10, [1], "more relevant documents"),
        ([1.0, 2.0], [1, 1], [0, 2], 10, [2, 2], "num_relevant must have shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(scores, relevance, offsets, at_k, num_relevant, message):
    counts = None if num_relevant is None else torch.tensor(num_relevant)
    with pytest.raises(ValueError, match=message):
        segment_metrics(
            torch.tensor(scores), torch.tensor(relevance), torch.tensor(offsets), at_k, num_relevant=counts
        )


def test_lists_too_many_and_too_long_for_one_sort_are_ranked_as_in_double_precision():
    # A list of 2^16 and 2^16 lists: segment, score and place would take more than 63 bits.
    num_long, num_lists = 2**16, 2**16
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 500, (num_long + num_lists - 1,), generator=generator).float()
    relevance = torch.randint(0, 2, scores.shape, generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(num_long, len(scores) + 1)])
    single, double = (segment_metrics(one, relevance, offsets, 10) for one in (scores, scores.double()))
    for name, values in single.items():
        assert torch.equal(values.nan_to_num(-1), double[name].nan_to_num(-1))
