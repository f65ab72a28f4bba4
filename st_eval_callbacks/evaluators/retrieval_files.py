"""Retrieval data as others keep them: BEIR folders, TREC files, Hugging Face datasets. Nothing of models in here."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .dataset_rows import read_rows

Gains = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RetrievalData:
    """What a retrieval evaluator is made of.

    Attributes:
        queries: Text by id; only those somebody judged documents for.
        corpus: Text by id.
        relevant_docs: Gain by document id, by query id; 0 says judged and not relevant.
    """

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: Gains

    @classmethod
    def of(
        cls, queries: Mapping[str, str], corpus: Mapping[str, str], judgements: Gains, source: str
    ) -> RetrievalData:
        """Keep the queries that have judgements.

        Raises:
            ValueError: When no query has any.
        """
        judged = {query: text for query, text in queries.items() if query in judgements}
        if not judged:
            raise ValueError(
                f"{source}: none of the {len(queries)} queries (such as {next(iter(queries), None)!r}) is among the "
                f"{len(judgements)} that have judgements (such as {next(iter(judgements), None)!r})."
            )
        return cls(judged, dict(corpus), judgements)


def read_beir(folder: str | Path, split: str = "test", *, with_title: bool = True) -> RetrievalData:
    """Read a data set in BEIR's layout.

    Args:
        folder: Has `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/<split>.tsv`
            (`query-id`, `corpus-id`, `score`, under a header); each may be compressed, as `corpus.jsonl.gz`.
        split: Whose judgements are read.
        with_title: Whether a document is its title, a space and its text, as BEIR encodes it; else its text alone.

    Returns:
        The data.

    Raises:
        FileNotFoundError: When a file is missing; says which splits there are.
        ValueError: When a line cannot be read; says which.
    """
    root = Path(folder)
    corpus = {}
    for place, row in _json_lines(_existing(root / "corpus.jsonl")):
        title = row.get("title") or "" if with_title else ""
        corpus[_text(row, "_id", place)] = f"{title} {_text(row, 'text', place)}".strip()
    queries = {
        _text(row, "_id", place): _text(row, "text", place) for place, row in _json_lines(root / "queries.jsonl")
    }
    path = root / "qrels" / f"{split}.tsv"
    if not _there(path):
        splits = sorted({one.name.partition(".")[0] for one in (root / "qrels").glob("*.tsv*")})
        raise FileNotFoundError(f"{path} is missing; there are judgements of the splits {splits}.")
    return RetrievalData.of(queries, corpus, _read_tsv_judgements(path), str(root))


def read_trec(corpus: str | Path, queries: str | Path, qrels: str | Path) -> RetrievalData:
    """Read texts, and judgements as TREC writes them.

    Args:
        corpus: A line a document: `id<TAB>text`, or JSON with `_id` (or `id`, `docid`) and `text` (or `contents`);
            a `title` stands in front. May be compressed, as `corpus.tsv.gz`.
        queries: The same of queries.
        qrels: A line a judgement: query, an unused word, document, gain; below 0 counts as 0.

    Returns:
        The data.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When a line cannot be read; says which.
    """
    return RetrievalData.of(_read_texts(queries), _read_texts(corpus), read_qrels(qrels), str(qrels))


def read_qrels(path: str | Path) -> Gains:
    """Read judgements as TREC writes them; see `read_trec`."""
    found: Gains = {}
    with _opened(_existing(Path(path))) as stream:
        for number, line in enumerate(stream, start=1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != 4:
                raise ValueError(f"{path}, line {number}: four words are needed (query, 0, document, gain): {line!r}.")
            found.setdefault(parts[0], {})[parts[2]] = max(_gain(parts[3], f"{path}, line {number}"), 0.0)
    return found


def read_datasets(source: str | Path | Mapping[str, Any], split: str = "train") -> RetrievalData:
    """Read a data set in NanoBEIR's layout.

    Args:
        source: A dataset of the Hugging Face Hub, a local folder, or the three as `datasets.Dataset` or lists of dicts
            by name: "corpus" (`_id`, `text`), "queries" (`_id`, `text`) and "qrels" (`query-id`, `corpus-id`: one id
            or a list, perhaps `score`). A document's `title` stands in front of its text.
        split: Split of each of the three; unused when they are given.

    Returns:
        The data. Empty texts are left out, as sentence-transformers does.

    Raises:
        ValueError: When one of the three is missing, cannot be loaded, or lacks a column.
    """
    if isinstance(source, Mapping):
        missing = [name for name in ("corpus", "queries", "qrels") if name not in source]
        if missing:
            raise ValueError(f"the data lack {', '.join(missing)}: given are {', '.join(map(str, source))}.")
        rows = dict(source)
    else:
        rows = {
            name: read_rows(str(source), name, split, columns)
            for name, columns in {
                "corpus": ["_id", "text"],
                "queries": ["_id", "text"],
                "qrels": ["query-id", "corpus-id"],
            }.items()
        }
    corpus = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows["corpus"] if row["text"]}
    queries = {row["_id"]: row["text"] for row in rows["queries"] if row["text"]}
    gains: Gains = {}
    for row in rows["qrels"]:
        ids = row["corpus-id"] if isinstance(row["corpus-id"], list) else [row["corpus-id"]]
        gain = float(row.get("score", 1))
        gains.setdefault(row["query-id"], {}).update(dict.fromkeys(ids, gain))
    return RetrievalData.of(queries, corpus, gains, "these data" if isinstance(source, Mapping) else str(source))


def _read_tsv_judgements(path: Path) -> Gains:
    found: Gains = {}
    with _opened(path) as stream:
        for number, row in enumerate(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if not row or (number == 1 and not _is_number(row[-1])):
                continue
            if len(row) != 3:
                raise ValueError(
                    f"{path}, line {number}: three columns are needed (query-id, corpus-id, score): {row}."
                )
            found.setdefault(row[0], {})[row[1]] = max(_gain(row[2], f"{path}, line {number}"), 0.0)
    return found


def _read_texts(path: str | Path) -> dict[str, str]:
    path = _existing(Path(path))
    if ".json" in path.name:
        found = {}
        for place, row in _json_lines(path):
            identity = _text(row, _first(row, ("_id", "id", "docid", "query_id"), place), place)
            text = _text(row, _first(row, ("text", "contents", "query"), place), place)
            found[identity] = f"{row.get('title') or ''} {text}".strip()
        return found
    found = {}
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            identity, tab, text = line.rstrip("\r\n").partition("\t")
            if not tab:
                raise ValueError(f"{path}, line {number}: an id, a tab and a text are needed: {line[:80]!r}.")
            found[identity] = text
    return found


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(_existing(path)) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{place} is no JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{place} is no JSON object: {line[:80]!r}.")
            yield place, row


def _first(row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    for name in names:
        if name in row:
            return name
    raise ValueError(f"{place} has none of {', '.join(names)}: it has {', '.join(row)}.")


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    if name not in row:
        raise ValueError(f"{place} has no {name!r}: it has {', '.join(row)}.")
    return str(row[name])


def _gain(text: str, place: str) -> float:
    if not _is_number(text):
        raise ValueError(f"{place}: {text!r} is no gain.")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _there(path: Path) -> bool:
    return path.exists() or path.with_name(f"{path.name}.gz").exists()


def _existing(path: Path) -> Path:
    if not _there(path):
        raise FileNotFoundError(f"{path} is missing (also as {path.name}.gz).")
    return path


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz" or not path.exists():
        return gzip.open(
            path if path.exists() else path.with_name(f"{path.name}.gz"), "rt", encoding="utf-8", newline=""
        )
    return path.open(encoding="utf-8", newline="")


class FromFiles:
    """What `InformationRetrievalEvaluator` adds for data of others: constructors that take all its other arguments."""

    @classmethod
    def from_beir(cls, folder: str | Path, split: str = "test", *, with_title: bool = True, **kwargs: Any) -> Any:
        """An evaluator of a data set in BEIR's layout; see `read_beir`.

        BEIR leaves out the document with the query's own id, which matters for ArguAna and Quora: pass
        `ignore_identical_ids=True` to compare with its numbers there.
        """
        return cls._of(read_beir(folder, split, with_title=with_title), kwargs)

    @classmethod
    def from_trec(cls, corpus: str | Path, queries: str | Path, qrels: str | Path, **kwargs: Any) -> Any:
        """An evaluator of texts and TREC's judgements; see `read_trec`."""
        return cls._of(read_trec(corpus, queries, qrels), kwargs)

    @classmethod
    def from_datasets(cls, source: str | Path | Mapping[str, Any], split: str = "train", **kwargs: Any) -> Any:
        """An evaluator of a data set in NanoBEIR's layout; see `read_datasets`."""
        return cls._of(read_datasets(source, split), kwargs)

    @classmethod
    def _of(cls, data: RetrievalData, settings: Mapping[str, Any]) -> Any:
        make: Any = cls
        return make(data.queries, data.corpus, data.relevant_docs, **settings)
