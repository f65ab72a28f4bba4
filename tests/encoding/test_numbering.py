"""Inputs as numbers: lists that come again, lists that changed, inputs that are no texts."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from st_eval_callbacks.encoding import Session, numbering
from st_eval_callbacks.encoding.numbering import Numbering, input_of, key_of, numbering_of
from tests.support.models import StubModel


def test_numbers_follow_the_first_appearance_and_give_the_inputs_back() -> None:
    one = Numbering()
    assert one.assign(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert one.assign(["c", "a", "d", "c"]).tolist() == [2, 1, 3, 2]
    assert len(one) == 4
    assert one.keys(np.array([2, 3])) == ["c", "d"]
    assert one.keys(np.array([3, 0])) == ["d", "b"]
    assert one.keys(np.array([], dtype=np.int64)) == []
    assert one.find(["d", "e", "b"]).tolist() == [3, -1, 0]
    assert len(one) == 4


@pytest.mark.parametrize("inputs", [[1, 1.0, True, "1"], [("a",), "a", ("a",)], [None, 0, False]])
def test_inputs_that_compare_equal_but_differ_in_type_are_told_apart(inputs: list[object]) -> None:
    one = Numbering()
    keys = list(map(key_of, inputs))
    numbers = one.assign(keys)
    assert len(one) == len({(type(x), x) for x in inputs})
    assert [repr(input_of(key)) for key in one.keys(numbers)] == list(map(repr, inputs))


def test_a_list_is_known_again_by_its_texts_not_by_its_identity() -> None:
    one, texts = Numbering(), ["a", "b", "c", "d"]
    assert one.recall(texts) is None
    numbers = one.number(texts, texts)
    assert one.recall(texts) is numbers
    assert one.recall("a b c d".split()) is numbers
    texts[1] = "x"
    assert one.recall(texts) is None
    assert one.number(texts, texts).tolist() == [0, 4, 2, 3]
    assert one.recall(["a", "b", "c", "d"]) is None
    assert one.recall(["a", 2, "c", "d"]) is None
    assert one.recall([]) is None


def test_a_text_changed_in_place_is_encoded_by_the_next_evaluation() -> None:
    stub = StubModel({name: [float(i), 1.0] for i, name in enumerate("abcde")})
    texts = list("abcd")
    assert Session().lookup(stub, texts).rows()[:, 0].tolist() == [0, 1, 2, 3]
    texts[1] = "e"
    assert Session().lookup(stub, texts).rows()[:, 0].tolist() == [0, 4, 2, 3]


def test_the_second_evaluation_looks_at_no_text_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = StubModel({name: [float(i), 1.0] for i, name in enumerate("abcde")})
    first, second = list("abc"), list("cde")
    asked = []
    assign = Numbering.assign
    monkeypatch.setattr(Numbering, "assign", lambda self, keys: asked.append(len(keys)) or assign(self, keys))
    for _ in range(3):
        one = Session()
        one.prefetch(stub, [(first, None), (second, None)])
        assert one.lookup(stub, second).rows()[:, 0].tolist() == [2, 3, 4]
        assert one.num_encoded == 5
    assert asked == [3, 3]


def test_an_evaluation_of_some_texts_keeps_a_table_of_those_only() -> None:
    stub = StubModel({name: [float(i), 1.0] for i, name in enumerate("abcde")})
    Session().lookup(stub, list("abcde"))
    table, index = Session().lookup(stub, ["e", "b", "e"])
    assert table[index][:, 0].tolist() == [4, 1, 4]
    assert len(table) == 2


def test_numbers_go_when_the_model_goes_and_start_anew_when_they_have_grown_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub = StubModel({"a": [1.0]})
    first = numbering_of(stub)
    assert numbering_of(stub) is first
    first.number(["a", "b"], ["a", "b"])
    monkeypatch.setattr(numbering, "MAX_BYTES", first.num_bytes - 1)
    assert numbering_of(stub) is not first
    gone = weakref.ref(first)
    del first, stub
    gc.collect()
    assert gone() is None


class Unhashable:
    """A model that can be no key of a dict."""

    __hash__ = None  # type: ignore[assignment]

    def encode(self, inputs: list[str], **kwargs: object) -> np.ndarray:
        return np.array([[float(len(text))] for text in inputs])


class Slotted:
    """A model that no weak reference can point to."""

    __slots__ = ()
    encode = Unhashable.encode


@pytest.mark.parametrize("kind", [Unhashable, Slotted])
def test_a_model_that_cannot_be_held_weakly_is_encoded_once_all_the_same(kind: type) -> None:
    one, model = Session(), kind()
    for _ in range(2):
        assert one.lookup(model, ["a", "bb", "a"]).rows().tolist() == [[1], [2], [1]]
    assert one.num_encoded == 2
