"""Writes the table of metrics and keys of docs/evaluators.md, from evaluators over one or two texts.

Run it with `python docs/keys.py`; a test tells when the page is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from grid import PAGE, task_of, written

from st_eval_callbacks import evaluators
from st_eval_callbacks.evaluators.base import Evaluator

BEGIN, END = "<!-- written by docs/keys.py -->", "<!-- end of what docs/keys.py writes -->"
TEXTS = ["a cat", "the dog"]
PAIRS = [("a cat", "the cat"), ("a cat", "red fish")]
SAMPLES = [{"query": "a cat", "positive": ["the cat"], "negative": ["red fish"]}]


class Dense:
    """Has what the evaluators of embeddings ask of a model before they run."""

    similarity_fn_name = "cosine"

    def encode(self, texts: list[str], **settings: Any) -> torch.Tensor:
        """Embed texts."""
        return torch.ones(len(texts), 2)


class Cross:
    """Has what the evaluators of pairs ask of a model before they run."""

    num_labels = 1

    def predict(self, pairs: list[tuple[str, str]], **settings: Any) -> torch.Tensor:
        """Score pairs."""
        return torch.zeros(len(pairs))


class Teacher(Dense):
    """Gives embeddings as arrays, as the evaluators of distillation take them."""

    def encode(self, texts: list[str], **settings: Any) -> Any:
        """Embed texts as an array."""
        return torch.ones(len(texts), 2).numpy()


def evaluators_with_models() -> Iterator[tuple[Evaluator, Any]]:
    """One evaluator of each task over a few texts, with a model of its kind."""
    yield evaluators.InformationRetrievalEvaluator({"q": TEXTS[0]}, {"d": TEXTS[1]}, {"q": {"d"}}), Dense()
    yield evaluators.RerankingEvaluator(SAMPLES), Dense()
    yield evaluators.EmbeddingSimilarityEvaluator(TEXTS, TEXTS, [0.0, 1.0]), Dense()
    yield evaluators.BinaryClassificationEvaluator(TEXTS, TEXTS, [0, 1]), Dense()
    yield evaluators.TripletEvaluator(TEXTS, TEXTS, TEXTS), Dense()
    yield evaluators.ParaphraseMiningEvaluator({"a": TEXTS[0], "b": TEXTS[1]}, [("a", "b")]), Dense()
    yield evaluators.TranslationEvaluator(TEXTS, TEXTS), Dense()
    yield evaluators.MSEEvaluator(TEXTS, TEXTS, Teacher()), Dense()
    yield evaluators.CrossEncoderRerankingEvaluator(SAMPLES), Cross()
    yield evaluators.CrossEncoderClassificationEvaluator(PAIRS, [1, 0]), Cross()
    yield evaluators.CrossEncoderCorrelationEvaluator(PAIRS, [1.0, 0.0]), Cross()


def grouped(keys: list[str]) -> str:
    """Keys in backticks, the cutoffs of one measure in one: `ndcg@{5,10}`."""
    cutoffs: dict[str, list[str]] = {}
    for key in keys:
        stem, _, cutoff = key.partition("@")
        cutoffs.setdefault(stem, []).append(cutoff)
    shown = {stem: ks[0] if len(ks) == 1 else "{" + ",".join(ks) + "}" for stem, ks in cutoffs.items()}
    return ", ".join(f"`{stem}@{ks}`" if ks else f"`{stem}`" for stem, ks in shown.items())


def table() -> str:
    """What each task measures, in Markdown."""
    lines = ["| task | what it measures | keys | decides |", "|---|---|---|---|"]
    for evaluator, model in evaluators_with_models():
        keys = evaluator.metric_names(model)
        kind = "CrossEncoder, " if isinstance(model, Cross) else ""
        meaning = (type(evaluator).__doc__ or "").split("\n")[0]
        lines.append(
            f"| {kind}{task_of(type(evaluator))} | {meaning} | {grouped(keys)} | `{evaluator.primary_metric}` |"
        )
    return "\n".join(lines)


def renewed(text: str) -> str:
    """The page with its table written anew."""
    return written(text, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
