"""Images, alone and beside texts, through a CLIP-like model's own `encode`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import ModelCardStub

from st_eval_callbacks import evaluators
from st_eval_callbacks.encoding import session
from st_eval_callbacks.evaluators.together import encode_together

NUM = 8


class Clip:
    """Embeds texts and images into one space, one row after another, and counts them."""

    similarity_fn_name = "cosine"
    model_card_data = ModelCardStub()

    def __init__(self) -> None:
        self.encoded: list[Any] = []

    def encode(self, inputs: Any, convert_to_tensor: bool = False, **kwargs: Any) -> Any:
        self.encoded += inputs
        rows = torch.stack([self._row(one) for one in inputs])
        return rows if convert_to_tensor else rows.numpy()

    def _row(self, one: Any) -> torch.Tensor:
        if isinstance(one, Image.Image):
            return torch.from_numpy(np.asarray(one, dtype=np.float32).reshape(-1) / 255)
        # A caption's number seeds what its image was made from, with some noise.
        return torch.from_numpy(pixels(int(one.split()[1]), 0.3).astype(np.float32).reshape(-1) / 255)

    encode_query = encode_document = encode

    def similarity(self, left: Any, right: Any) -> Any:
        return torch.nn.functional.normalize(left) @ torch.nn.functional.normalize(right).T

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        return torch.cosine_similarity(left, right)


def pixels(seed: int, noise: float = 0.0) -> np.ndarray:
    plain = np.random.default_rng(seed).integers(0, 255, (2, 2, 3))
    return np.clip(plain + noise * np.random.default_rng(seed + 100).integers(-255, 255, plain.shape), 0, 255)


@pytest.fixture
def images() -> list[Any]:
    return [Image.fromarray(pixels(seed).astype(np.uint8)) for seed in range(NUM)]


TEXTS = [f"image {number}" for number in range(NUM)]


def build(kinds: Any, images: list[Any]) -> list[Any]:
    """Evaluators over images and texts, of this package or of sentence-transformers."""
    relevant = {f"q{number}": {f"d{number}"} for number in range(NUM)}
    queries = {f"q{number}": one for number, one in enumerate(TEXTS)}
    corpus = {f"d{number}": one for number, one in enumerate(images)}
    samples = [{"query": TEXTS[0], "positive": [images[0]], "negative": images[1:5]}]
    return [
        kinds.InformationRetrievalEvaluator(queries, corpus, relevant, name="ir"),
        kinds.TripletEvaluator(images, TEXTS, TEXTS[::-1], name="triplet"),
        kinds.EmbeddingSimilarityEvaluator(images, TEXTS[::-1], list(range(NUM)), name="sts"),
        kinds.BinaryClassificationEvaluator(images, TEXTS, [1, 0] * (NUM // 2), name="binary"),
        kinds.RerankingEvaluator(samples, name="rerank"),
    ]


def test_values_are_those_of_sentence_transformers(images: list[Any]) -> None:
    for ours, theirs in zip(build(evaluators, images), build(peer, images), strict=True):
        found, expected = ours(Clip()), theirs(Clip())
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, abs=1e-6), key


def test_each_image_is_encoded_once_for_all_evaluators(images: list[Any]) -> None:
    model, each = Clip(), build(evaluators, images)
    with session():
        encode_together(each, model)
        for evaluator in each:
            evaluator(model)
    # Anchors and queries, positives and documents, and the rest go through a method each.
    assert sum(isinstance(one, Image.Image) for one in model.encoded) == 3 * NUM
    assert len(model.encoded) == 6 * NUM


def test_predictions_name_an_image_that_was_the_query(images: list[Any], tmp_path: Path) -> None:
    queries, corpus = dict(enumerate(images)), {10 + number: text for number, text in enumerate(TEXTS)}
    evaluator = evaluators.InformationRetrievalEvaluator(
        queries, corpus, {0: {10}}, write_predictions=True, name="images"
    )
    evaluator(Clip(), str(tmp_path))
    [path] = tmp_path.glob("*.jsonl")
    assert [json.loads(line)["query"] for line in path.read_text().splitlines()] == ["<Image>"]


def test_captions_find_their_images_and_images_their_captions(images: list[Any]) -> None:
    found = evaluators.TranslationEvaluator(TEXTS, images)(Clip())
    assert found["mean_accuracy"] > 0.5
    again = evaluators.TranslationEvaluator([*TEXTS, TEXTS[0]], [*images, images[0]])(Clip())
    # The first image comes twice and is right whichever of the two is found.
    assert again["src2trg_accuracy"] * (NUM + 1) == pytest.approx(found["src2trg_accuracy"] * NUM + 1)


def test_a_single_image_stands_for_a_list_of_one(images: list[Any]) -> None:
    one = evaluators.RerankingEvaluator([{"query": TEXTS[0], "positive": images[0], "negative": images[1:3]}])
    assert one.samples[0]["positive"] == [images[0]]


def test_images_are_mined_and_compared_with_a_teacher(images: list[Any]) -> None:
    twice = {f"i{number}": one for number, one in enumerate([*images, images[3].copy()])}
    mined = evaluators.ParaphraseMiningEvaluator(twice, duplicates_list=[("i3", f"i{NUM}")])(Clip())
    assert mined["average_precision"] == 1.0
    assert evaluators.MSEEvaluator(images, images, teacher_model=Clip())(Clip()) == {"negative_mse": -0.0}
