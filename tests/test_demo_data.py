from __future__ import annotations

from pathlib import Path

import pytest

from examples import search_api_docs as demo


@pytest.fixture(scope="module")
def pairs() -> list[demo.Pair]:
    return demo.collect_pairs()


def test_there_are_a_few_thousand_pairs_of_all_three_packages(pairs: list[demo.Pair]) -> None:
    assert 2000 <= len(pairs) <= 4000
    for package in demo.PACKAGES:
        assert sum(pair.name.startswith(f"{package}.") for pair in pairs) >= 500


def test_every_pair_has_a_query_and_a_document_of_the_stated_lengths(pairs: list[demo.Pair]) -> None:
    for pair in pairs:
        assert demo.MIN_QUERY_WORDS <= len(pair.query.split()) <= demo.MAX_QUERY_WORDS
        assert len(pair.document.split()) >= demo.MIN_DOCUMENT_WORDS


def test_every_name_query_and_document_is_there_once(pairs: list[demo.Pair]) -> None:
    assert len({pair.name for pair in pairs}) == len(pairs)
    assert len({text.lower() for pair in pairs for text in (pair.query, pair.document)}) == 2 * len(pairs)


def test_no_text_is_in_both_parts_of_the_split(pairs: list[demo.Pair]) -> None:
    train, dev = ({text.lower() for pair in part for text in pair[1:]} for part in demo.split_pairs(pairs))
    assert not train & dev


def test_the_split_keeps_every_pair_and_holds_out_about_a_fifth(pairs: list[demo.Pair]) -> None:
    train, dev = demo.split_pairs(pairs)
    assert sorted(train + dev) == sorted(pairs)
    assert 0.17 <= len(dev) / len(pairs) <= 0.23


def test_the_split_of_a_pair_does_not_depend_on_the_other_pairs(pairs: list[demo.Pair]) -> None:
    _, dev = demo.split_pairs(pairs)
    assert demo.split_pairs(pairs[::-3])[1] == [pair for pair in pairs[::-3] if pair in set(dev)]


def test_the_data_are_the_same_every_time(pairs: list[demo.Pair]) -> None:
    assert demo.collect_pairs() == pairs


@pytest.mark.parametrize(("count", "length"), [(1, 1), (7, 7), (10, 10), (99, 10)])
def test_a_sample_has_distinct_pairs_in_order_and_never_more_than_there_are(count: int, length: int) -> None:
    pairs = [demo.Pair(str(i), "query", "document") for i in range(10)]
    taken = demo.sample(pairs, count)
    assert len(taken) == length
    assert taken == sorted(set(taken))


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed"):
        demo.collect_pairs(["no_such_package"])


def test_a_new_run_moves_earlier_checkpoints_aside(tmp_path: Path) -> None:
    for name in ("checkpoint-5", "earlier/checkpoint-3"):
        (tmp_path / name).mkdir(parents=True)
    demo.set_aside(tmp_path)
    assert [path.name for path in (tmp_path / "earlier").iterdir()] == ["checkpoint-5"]
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_new_run_in_an_empty_or_missing_folder_moves_nothing(tmp_path: Path) -> None:
    demo.set_aside(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
