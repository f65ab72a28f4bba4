"""What the card of the saved model claims is what was measured on these weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import SequentialEvaluator as OtherSequentialEvaluator
from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator
from support.cards import card_metrics, front_matter, marked_steps, text_without_times, training_rows
from support.loop import WORDS, Fake, at_steps, crash, make_trainer

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.evaluators import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    SequentialEvaluator,
)

LEFT = [f"{WORDS[i]} {WORDS[(i + 1) % 8]}" for i in range(8)]
RIGHT = [f"{WORDS[(2 * i) % 8]} {WORDS[(i + 3) % 8]}" for i in range(8)]


def similarity(name: str = "sts") -> EmbeddingSimilarityEvaluator:
    return EmbeddingSimilarityEvaluator(LEFT, RIGHT, [i / 7 for i in range(8)], name=name)


def retrieval(name: str = "nq") -> InformationRetrievalEvaluator:
    return InformationRetrievalEvaluator(
        {f"q{i}": text for i, text in enumerate(LEFT)},
        {f"d{i}": text for i, text in enumerate(RIGHT)},
        {f"q{i}": {f"d{i}"} for i in range(8)},
        name=name,
    )


def triplets(name: str = "triplets") -> TripletEvaluator:
    return TripletEvaluator(LEFT, RIGHT, RIGHT[1:] + RIGHT[:1], name=name)


@pytest.mark.parametrize("later", ["similarity", "retrieval", "triplets"])
def test_every_value_in_the_metadata_is_that_of_the_loaded_best(tmp_path: Path, later: str) -> None:
    evaluators = {"similarity": similarity, "retrieval": retrieval, "triplets": triplets}
    callback = EvaluatorCallback(
        [
            Scheduled(Fake(at_steps(0.5, 0.4, 0.9, 0.1)), every=2),
            *(Scheduled(make(), every=4 if name == later else 2) for name, make in evaluators.items()),
        ],
        load_best_model_at_end=True,
    )
    trainer = make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=8)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    best = callback.history.at(6)
    assert best is not None
    # What did not run at that step is run on the loaded model; it must say what the checkpoint says.
    late = evaluators[later]()
    by_hand = late(SentenceTransformer(str(tmp_path / "checkpoint-6"), device="cpu"))
    assert not set(by_hand) & set(best.metrics)
    expected = {**best.metrics, **by_hand}

    matter = front_matter(tmp_path / "final")
    [model] = matter["model-index"]
    told = [(result["dataset"]["type"], metric) for result in model["results"] for metric in result["metrics"]]
    assert {f"{name}_{metric['type']}": metric["value"] for name, metric in told} == expected
    assert all(type(metric["value"]) is float and math.isfinite(metric["value"]) for _, metric in told)
    assert {
        f"{name}_{metric}": value for (name, metric), value in card_metrics(tmp_path / "final").items()
    } == expected
    assert set(matter["metrics"]) == {metric["type"] for _, metric in told}

    rows = training_rows(tmp_path / "final")
    assert marked_steps(rows) == [6]
    primaries = {"fake_score", "sts_spearman_cosine", "nq_cosine_ndcg@10", "triplets_cosine_accuracy"}
    assert set(rows[0]) == {"Epoch", "Step", "Training Loss", *primaries}
    for row in rows:
        record = callback.history.at(int(row["Step"].strip("*")))
        measured = {} if record is None else record.metrics
        shown = {column: float(row[column].strip("*")) for column in primaries if row[column].strip("*") != "-"}
        assert shown == {column: round(measured[column], 4) for column in primaries & set(measured)}


MIXTURES: dict[str, Callable[[], Any]] = {
    "list": lambda: [similarity(), retrieval(), triplets()],
    "unnamed": lambda: [similarity(""), retrieval("")],
    "named by the callback": lambda: {"dev": similarity(""), "sts": similarity("sts"), "other": triplets("own")},
    "sequence": lambda: [SequentialEvaluator([similarity(), retrieval(), triplets()])],
    "named sequence": lambda: {"all": SequentialEvaluator([similarity(), SequentialEvaluator([retrieval()])])},
    "sequence of sentence-transformers": lambda: [OtherSequentialEvaluator([triplets("a"), triplets("b")])],
    "function": lambda: {"steps": lambda model, output_path, epoch, steps: float(steps)},
}


@pytest.mark.slow
@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_card_after_a_resume_is_that_of_an_uninterrupted_run(tmp_path: Path, mixture: str) -> None:
    def callbacks() -> list[Any]:
        first = EvaluatorCallback(Fake(at_steps(0.9, 0.1, 0.2, 0.3)), every=2, load_best_model_at_end=True)
        return [EvaluatorCallback(MIXTURES[mixture](), every=2, primary="fake_score"), first]

    arguments = {"save_strategy": "steps", "save_steps": 4}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = make_trainer(whole, callbacks(), **arguments)
    uninterrupted.train()
    crash(cut, 5, callbacks(), **arguments)
    resumed = make_trainer(cut, callbacks(), **arguments)
    resumed.train(resume_from_checkpoint=True)
    for trainer, folder in ((uninterrupted, whole), (resumed, cut)):
        trainer.save_model(str(folder / "final"))
    assert marked_steps(training_rows(cut / "final")) == [2]
    assert card_metrics(cut / "final") == card_metrics(whole / "final")
    assert text_without_times(cut / "final") == text_without_times(whole / "final")
