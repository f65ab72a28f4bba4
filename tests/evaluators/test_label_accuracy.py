"""Label accuracy: the peer's value, and a data loader that is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer import evaluation as peer
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.sentence_transformer.readers import InputExample
from support.models import tiny_model
from support.parity import assert_equal_to_peer, sentences
from torch.utils.data import DataLoader

from st_eval_callbacks.evaluators import LabelAccuracyEvaluator


def loader(num: int = 23) -> Any:
    texts = sentences(2 * num, 31)
    examples = [InputExample(texts=[texts[2 * i], texts[2 * i + 1]], label=i % 3) for i in range(num)]
    return DataLoader(examples, batch_size=4)  # type: ignore[arg-type]


def head(model: Any) -> Any:
    torch.manual_seed(3)
    return SoftmaxLoss(model, model.get_embedding_dimension(), 3)


@pytest.mark.parametrize("name", ["", "dev"])
def test_it_is_equal_to_the_peer(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model()
    softmax = head(model)
    ours = LabelAccuracyEvaluator(loader(), name=name, softmax_model=softmax)
    theirs = peer.LabelAccuracyEvaluator(loader(), name=name, softmax_model=softmax)
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)


def test_the_loader_and_the_mode_of_the_model_stay_as_they_were() -> None:
    model, dataloader = tiny_model(), loader()
    before = dataloader.collate_fn
    model.train()
    evaluator = LabelAccuracyEvaluator(dataloader, softmax_model=head(model))
    assert evaluator(model) == evaluator(model)
    assert dataloader.collate_fn is before
    assert model.training
