"""Retrieval data as others keep them: BEIR folders, TREC files, Hugging Face datasets. Nothing of models in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dataset_rows import read_rows
from .text_files import existing, first_name, gain_of, is_number, is_there, json_lines, needed, opened, text_of

Gains = dict[str, dict[str, float]]

_COLUMNS = {"corpus": ["_id", "text"], "queries": ["_id", "text"], "qrels": ["query-id", "corpus-id"]}


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
    for place, row in json_lines(existing(root / "corpus.jsonl")):
        title = row.get("title") or "" if with_title else ""
        corpus[text_of(row, "_id", place)] = f"{title} {text_of(row, 'text', place)}".strip()
    queries = {
        text_of(row, "_id", place): text_of(row, "text", place) for place, row in json_lines(root / "queries.jsonl")
    }
    path = root / "qrels" / f"{split}.tsv"
    if not is_there(path):
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
    with opened(existing(Path(path))) as stream:
        for number, line in enumerate(stream, start=1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != 4:
                raise ValueError(f"{path}, line {number}: four words are needed (query, 0, document, gain): {line!r}.")
            found.setdefault(parts[0], {})[parts[2]] = max(gain_of(parts[3], f"{path}, line {number}"), 0.0)
    return found


def read_datasets(source: str | Path | Mapping[str, Any], split: str = "train") -> RetrievalData:
    """Read a data set in NanoBEIR's layout.

    Args:
        source: A dataset of the Hugging Face Hub, a local folder, or the three as `datasets.Dataset` (or a dictionary
            of them by split) or lists of dicts by name: "corpus" (`_id`, `text`), "queries" (`_id`, `text`) and
            "qrels" (`query-id`, `corpus-id`: one id or a list, perhaps `score`). A document's `title` stands in front
            of its text.
        split: Split of each of the three; unused where they are given without splits.

    Returns:
        The data. Empty texts are left out, as sentence-transformers does; ids become text, as in files.

    Raises:
        ValueError: When one of the three is missing, cannot be loaded, or lacks a column.
    """
    where = "these data" if isinstance(source, Mapping) else str(source)
    if isinstance(source, Mapping):
        missing = [name for name in _COLUMNS if name not in source]
        if missing:
            raise ValueError(f"the data lack {', '.join(missing)}: given are {', '.join(map(str, source))}.")
        tables = {name: _of_split(source[name], name, split) for name in _COLUMNS}
    else:
        tables = {name: read_rows(where, name, split, columns) for name, columns in _COLUMNS.items()}
    corpus = {
        text_of(row, "_id", place): f"{row.get('title') or ''} {row['text']}".strip()
        for place, row in _rows(tables, "corpus")
        if needed(row, "text", place)
    }
    queries = {
        text_of(row, "_id", place): row["text"]
        for place, row in _rows(tables, "queries")
        if needed(row, "text", place)
    }
    gains: Gains = {}
    for place, row in _rows(tables, "qrels"):
        found = needed(row, "corpus-id", place)
        ids = [found] if isinstance(found, str) or not isinstance(found, Iterable) else found
        gain = 1.0 if row.get("score") is None else gain_of(row["score"], place)
        gains.setdefault(text_of(row, "query-id", place), {}).update({str(one): gain for one in ids})
    return RetrievalData.of(queries, corpus, gains, where)


def _of_split(table: Any, name: str, split: str) -> Any:
    """The rows of a table that may have splits."""
    if not isinstance(table, Mapping):
        return table
    if split not in table:
        raise ValueError(f"{name} has no split {split!r}: it has {', '.join(map(str, table))}.")
    return table[split]


def _rows(tables: Mapping[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((f"{name}, row {number}", row) for number, row in enumerate(tables[name]))


def _read_tsv_judgements(path: Path) -> Gains:
    found: Gains = {}
    with opened(path) as stream:
        is_first = True
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = line.rstrip("\r\n").split("\t")
            is_header, is_first = is_first and not is_number(row[-1]), False
            if is_header:
                continue
            if len(row) != 3:
                raise ValueError(
                    f"{path}, line {number}: three columns are needed (query-id, corpus-id, score): {row}."
                )
            found.setdefault(row[0], {})[row[1]] = max(gain_of(row[2], f"{path}, line {number}"), 0.0)
    return found


def _read_texts(path: str | Path) -> dict[str, str]:
    path = existing(Path(path))
    if ".json" in path.name:
        found = {}
        for place, row in json_lines(path):
            identity = text_of(row, first_name(row, ("_id", "id", "docid", "query_id"), place), place)
            text = text_of(row, first_name(row, ("text", "contents", "query"), place), place)
            found[identity] = f"{row.get('title') or ''} {text}".strip()
        return found
    found = {}
    with opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            identity, tab, text = line.rstrip("\r\n").partition("\t")
            if not tab:
                raise ValueError(f"{path}, line {number}: an id, a tab and a text are needed: {line[:80]!r}.")
            found[identity] = text
    return found


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
