"""Retrieval data as others keep them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
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


def test_marks_of_byte_order_blank_lines_and_other_line_ends_are_read_over(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    for path in folder.rglob("*.*l"):
        path.write_text(path.read_text().replace("\n", "\r\n\r\n"), encoding="utf-8-sig", newline="")
    write(
        folder / "qrels" / "test.tsv", "\ufeff \r\nquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\t3\t0\nq2\td 2\t1\n"
    )
    assert read_beir(folder) == RetrievalData({"q1": "cat", "q2": "dog"}, TEXTS, GAINS)
    write(tmp_path / "texts.tsv", "\ufeffq1\ta\rb\r\n\nd1\t\n \n")
    write(tmp_path / "qrels.txt", "\ufeffq1 0 d1 1\r\n")
    data = read_trec(tmp_path / "texts.tsv", tmp_path / "texts.tsv", tmp_path / "qrels.txt")
    assert data == RetrievalData({"q1": "a\rb"}, {"q1": "a\rb", "d1": ""}, {"q1": {"d1": 1.0}})


def test_a_text_or_title_of_null_is_empty(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    write(folder / "corpus.jsonl", lines([{"_id": "d1", "title": None, "text": None}]))
    assert read_beir(folder).corpus == {"d1": ""}


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


def test_ids_of_datasets_that_are_numbers_here_and_text_there_fit(tmp_path: Path) -> None:
    corpus = Dataset.from_list([{"_id": "1", "text": "a cat", "title": None}])
    queries = Dataset.from_list([{"_id": 7, "text": " cat"}])
    qrels = Dataset.from_list([{"query-id": 7, "corpus-id": 1, "score": None}])
    expected = RetrievalData({"7": " cat"}, {"1": "a cat"}, {"7": {"1": 1.0}})
    tables = {"corpus": corpus, "queries": queries, "qrels": qrels}
    assert read_datasets(tables) == expected
    in_splits = {name: DatasetDict({"test": table}) for name, table in tables.items()}
    assert read_datasets(in_splits, "test") == expected
    with pytest.raises(ValueError, match="corpus has no split 'train': it has test"):
        read_datasets(in_splits)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("corpus", {"id": "d1", "text": "a"}, "corpus, row 0 has no '_id': it has id, text"),
        ("queries", {"_id": "q1"}, "queries, row 0 has no 'text'"),
        ("qrels", {"query": "q1", "corpus-id": "d1"}, "qrels, row 0 has no 'query-id'"),
        ("qrels", {"query-id": "q1", "corpus-id": "d1", "score": "high"}, "qrels, row 0: 'high' is no gain"),
    ],
)
def test_what_a_table_lacks_is_named(name: str, row: dict[str, str], message: str) -> None:
    tables = {
        "corpus": [{"_id": "d1", "text": "a"}],
        "queries": [{"_id": "q1", "text": "a"}],
        "qrels": [{"query-id": "q1", "corpus-id": "d1"}],
    }
    with pytest.raises(ValueError, match=message):
        read_datasets({**tables, name: [row]})


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
        (lambda f: write(f / "qrels" / "test.tsv", "q1\td1\tnan\n"), ValueError, "'nan' is no gain"),
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
