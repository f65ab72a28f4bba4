"""Retrieval data as others keep them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset
from support.nano import make_nano_folder

from st_eval_callbacks.evaluators.retrieval_files import RetrievalData, read_beir, read_datasets, read_qrels, read_trec

CORPUS = [
    {"_id": "d1", "title": "Cats", "text": "a cat sits", "metadata": {}},
    {"_id": "d 2", "title": "", "text": "the dog\truns"},
    {"_id": "3", "text": "a fish"},
]
QUERIES = [{"_id": "q1", "text": "cat"}, {"_id": "q2", "text": "dog"}, {"_id": "unjudged", "text": "tree"}]
TEXTS = {"d1": "Cats a cat sits", "d 2": "the dog\truns", "3": "a fish"}
GAINS = {"q1": {"d1": 2.0, "3": 0.0}, "q2": {"d 2": 1.0}}


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, text: str, *, packed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def beir(folder: Path, *, packed: bool = False, header: bool = True) -> Path:
    write(folder / "corpus.jsonl", lines(CORPUS), packed=packed)
    write(folder / "queries.jsonl", lines(QUERIES), packed=packed)
    head = "query-id\tcorpus-id\tscore\n" if header else ""
    write(folder / "qrels" / "test.tsv", f"{head}q1\td1\t2\nq1\t3\t0\nq2\td 2\t1\n", packed=packed)
    write(folder / "qrels" / "dev.tsv", f"{head}q1\td1\t1\n")
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_a_beir_folder_is_read(tmp_path: Path, packed: bool, header: bool) -> None:
    data = read_beir(beir(tmp_path, packed=packed, header=header))
    assert data == RetrievalData({"q1": "cat", "q2": "dog"}, TEXTS, GAINS)
    assert read_beir(tmp_path, "dev").queries == {"q1": "cat"}
    assert read_beir(tmp_path, with_title=False).corpus["d1"] == "a cat sits"


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "tsv.gz"])
def test_trec_files_are_read(tmp_path: Path, ending: str) -> None:
    rows = {"corpus": {"d1": "a cat", "d2": "the dog\truns"}, "queries": {"q1": "cat", "q2": "dog"}}
    for name, texts in rows.items():
        if ending == "jsonl":
            text = lines([{"id": one, "contents": value} for one, value in texts.items()])
        else:
            text = "".join(f"{one}\t{value}\r\n" for one, value in texts.items())
        write(tmp_path / f"{name}.{ending.removesuffix('.gz')}", text, packed=ending.endswith("gz"))
    write(tmp_path / "qrels", "q1 0 d1 3\nq1 Q0 d2 -1\n\nq9\t0\td1\t1\n")
    data = read_trec(tmp_path / f"corpus.{ending}", tmp_path / f"queries.{ending}", tmp_path / "qrels")
    assert data.corpus == rows["corpus"]
    assert data.queries == {"q1": "cat"}
    assert data.relevant_docs == {"q1": {"d1": 3.0, "d2": 0.0}, "q9": {"d1": 1.0}}


def test_datasets_in_nano_beirs_layout_are_read(tmp_path: Path) -> None:
    given = {
        "corpus": Dataset.from_list([{"_id": "d1", "text": "a cat"}, {"_id": "d2", "text": "dog"}]),
        "queries": [{"_id": "q1", "text": "cat"}, {"_id": "q2", "text": ""}],
        "qrels": [
            {"query-id": "q1", "corpus-id": ["d1", "d2"], "score": 2},
            {"query-id": "q2", "corpus-id": "d2"},
        ],
    }
    data = read_datasets(given)
    assert data == RetrievalData(
        {"q1": "cat"}, {"d1": "a cat", "d2": "dog"}, {"q1": {"d1": 2.0, "d2": 2.0}, "q2": {"d2": 1.0}}
    )
    folder = make_nano_folder(tmp_path)
    assert len(read_datasets(folder, "NanoNQ").queries) == 6
    with pytest.raises(ValueError, match="lack qrels"):
        read_datasets({"corpus": [], "queries": []})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: (f / "queries.jsonl").unlink(), FileNotFoundError, r"queries\.jsonl is missing"),
        (lambda f: (f / "qrels" / "test.tsv").unlink(), FileNotFoundError, r"splits \['dev'\]"),
        (lambda f: write(f / "corpus.jsonl", '{"_id": "a"}\n'), ValueError, r"line 1 has no 'text': it has _id"),
        (lambda f: write(f / "corpus.jsonl", "{}\n{\n"), ValueError, "line 1 has no 'text'"),
        (lambda f: write(f / "corpus.jsonl", "[]\n"), ValueError, "no JSON object"),
        (lambda f: write(f / "corpus.jsonl", "{\n"), ValueError, "line 1 is no JSON"),
        (lambda f: write(f / "qrels" / "test.tsv", "a\tb\tc\nq1\td1\n"), ValueError, "line 2"),
        (lambda f: write(f / "qrels" / "test.tsv", "a\tb\tc\nq1\td1\thigh\n"), ValueError, "'high' is no gain"),
        (lambda f: write(f / "qrels" / "test.tsv", "q7\td1\t1\n"), ValueError, "none of the 3 queries .*'q1'.*'q7'"),
    ],
)
def test_what_cannot_be_read_is_named(
    spoil: Callable[[Path], None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    spoil(beir(tmp_path))
    with pytest.raises(error, match=message):
        read_beir(tmp_path)


def test_a_line_of_qrels_that_is_too_short_is_named(tmp_path: Path) -> None:
    write(tmp_path / "qrels", "q1 0 d1 1\nq1 d1 1\n")
    with pytest.raises(ValueError, match="line 2: four words"):
        read_qrels(tmp_path / "qrels")
