"""Rows of several vectors, against lists of matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from st_eval_callbacks.kernels.ragged_rows import RaggedRows, offsets_of

LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def matrices(lengths: list[int], dim: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, generator=generator) for length in lengths]


def same(rows: RaggedRows, expected: list[Tensor]) -> bool:
    found = rows.split()
    return len(rows) == len(found) == len(expected) and all(map(torch.equal, found, expected))


@settings(deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_rows_are_taken_joined_truncated_and_normalised_as_single_matrices_are(lengths, data):
    each = matrices(lengths)
    rows = RaggedRows.of(each)
    index = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9))
    assert same(rows, each)
    assert rows.lengths.tolist() == lengths
    assert same(rows.take(torch.tensor(index, dtype=torch.int64)), [each[place] for place in index])
    assert same(rows.joined([rows, RaggedRows.of(each[:1])]), [*each, *each, each[0]])
    assert same(rows.truncated(2), [one[:, :2] for one in each])
    assert same(rows.normalised(), [torch.nn.functional.normalize(one, dim=1) for one in each])
    start = data.draw(st.integers(0, len(lengths)))
    end = data.draw(st.integers(start, len(lengths)))
    assert same(rows.part(start, end), each[start:end])
    assert same(rows.part(0, len(lengths) + 5), each)


def test_a_run_of_rows_shares_its_vectors_and_others_are_copied():
    rows = RaggedRows.of(matrices([2, 0, 3, 1]))
    assert rows.take(torch.tensor([2, 3])).vectors.data_ptr() == rows.vectors[2:].data_ptr()
    assert rows.take(torch.tensor([3, 2])).vectors.data_ptr() not in (
        rows.vectors.data_ptr(),
        rows.vectors[2:].data_ptr(),
    )


@given(lengths=LENGTHS)
def test_padded_rows_come_back_as_they_were(lengths):
    each = matrices(lengths)
    padded = RaggedRows.of(each).padded()
    assert padded.shape == (len(lengths), max(lengths), 3)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    assert same(RaggedRows.of_padded(padded), each)
    assert same(RaggedRows.of_padded(padded, mask.float()), each)
    assert not padded[~mask].any()


def test_a_mask_decides_which_vectors_count():
    padded = torch.zeros(2, 2, 1)
    padded[0, 1] = 5
    assert RaggedRows.of_padded(padded).lengths.tolist() == [1, 0]
    assert RaggedRows.of_padded(padded, torch.tensor([[1, 1], [0, 1]])).lengths.tolist() == [2, 1]


def test_rows_of_processes_are_gathered_as_two_tensors_each():
    rows = RaggedRows.of(matrices([2, 1]))
    sent: list[Tensor] = []

    def gather(tensor: Tensor) -> list[Tensor]:
        sent.append(tensor)
        return [tensor, tensor]

    found = rows.gathered(gather)
    assert all(same(one, rows.split()) for one in found)
    assert [tuple(one.shape) for one in sent] == [(3, 3), (2,)]


def test_memory_is_that_of_vectors_and_offsets():
    rows = RaggedRows.of(matrices([2, 1]))
    assert rows.num_bytes == 3 * 3 * 4 + 3 * 8
    assert rows.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("vectors", "offsets"),
    [
        (torch.zeros(3), [0, 3]),
        (torch.zeros(3, 2), []),
        (torch.zeros(3, 2), [0, 2]),
        (torch.zeros(3, 2), [1, 3]),
        (torch.zeros(3, 2), [0, 2, 1, 3]),
    ],
)
def test_offsets_that_do_not_fit_are_refused(vectors, offsets):
    with pytest.raises(ValueError, match="offsets"):
        RaggedRows(vectors, torch.tensor(offsets, dtype=torch.int64))


@pytest.mark.parametrize("rows", [[], [torch.zeros(3)], [torch.zeros(1, 2), torch.zeros(1, 3)]])
def test_rows_of_different_widths_are_refused(rows):
    with pytest.raises(ValueError, match="one width"):
        RaggedRows.of(rows)
    with pytest.raises(ValueError, match="padded rows"):
        RaggedRows.of_padded(torch.zeros(2, 3))


def test_offsets_of_no_rows_are_a_zero():
    assert offsets_of(torch.empty(0, dtype=torch.int64)).tolist() == [0]
