"""Quantised embeddings are those of sentence-transformers, as numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers.util import quantize_embeddings

from st_eval_callbacks.kernels.quantise import PRECISIONS, quantise, ranges_of


@pytest.fixture
def embeddings() -> torch.Tensor:
    made = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    made[:, 3] = 0.25
    made[0, 5] = 0.0
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_values_are_those_of_the_peer(precision: str, embeddings: torch.Tensor) -> None:
    ranges = ranges_of(embeddings[:20])
    peer = quantize_embeddings(embeddings.numpy(), precision=precision, ranges=ranges.numpy())  # type: ignore[arg-type]
    if precision == "binary":
        peer = (peer.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        peer = np.unpackbits(peer, axis=1)
    assert torch.equal(quantise(embeddings, precision, ranges), torch.from_numpy(peer.astype(np.float32)))


def test_what_lies_outside_of_the_ranges_falls_into_the_last_bin() -> None:
    ranges = torch.tensor([[0.0], [1.0]])
    assert quantise(torch.tensor([[-9.0], [9.0]]), "uint8", ranges).tolist() == [[0.0], [255.0]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_stays_nan(precision: str) -> None:
    values = quantise(torch.tensor([[float("nan"), 0.5]]), precision, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert values.isnan().tolist() == [[True, False]]


def test_half_precision_is_quantised_in_float32(embeddings: torch.Tensor) -> None:
    half = embeddings.bfloat16()
    assert torch.equal(
        quantise(half, "int8", ranges_of(half)), quantise(half.float(), "int8", ranges_of(half.float()))
    )


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="int8, uint8, binary, ubinary"):
        quantise(torch.ones(1, 2), "int4")
    with pytest.raises(ValueError, match="ranges"):
        quantise(torch.ones(1, 2), "int8")
