"""Distillation: a student's embeddings beside a fixed teacher's."""

from __future__ import annotations

from .compare import Case, Row, Settings, compare
from .pairs import case_of
from .report import Section
from .stubs import StubModel, clustered, names, near


def build(num_texts: int) -> Case:
    """A student that misses its teacher by a tenth."""
    texts = names("t", num_texts)
    table = clustered(num_texts, seed=1)
    student = StubModel(texts, near(table, seed=2, noise=0.1))
    arguments = {"source_sentences": texts, "target_sentences": texts, "teacher_model": StubModel(texts, table)}
    return case_of("MSEEvaluator", f"{num_texts:,} texts", student, arguments)


ROWS = (Row("MSE", build, full={"num_texts": 100_000}, quick={"num_texts": 20_000}, smallest={"num_texts": 40}),)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Distillation", ROWS, settings)]
