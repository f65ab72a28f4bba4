from __future__ import annotations

import gc
import random
import sys
import weakref
from typing import Any

import pytest
import torch
from support.models import TEXTS, WORDS, StubModel, tiny_model, tiny_router_model, tiny_static_model

from st_eval_callbacks import distributed
from st_eval_callbacks.encoding import EncodeOptions, Session, session

SESSION_MODULE = sys.modules[Session.__module__]
QUERY, DOCUMENT = EncodeOptions(task="query"), EncodeOptions(task="document")
VECTORS = {name: [float(i), 1.0, float(-i), 2.0] for i, name in enumerate("abcdefghij")}


@pytest.fixture
def stub() -> StubModel:
    return StubModel(VECTORS)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SESSION_MODULE, "_STREAM_CHUNK", 3)


def rows_of(texts: str) -> torch.Tensor:
    return torch.tensor([VECTORS[text] for text in texts])


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_text_is_encoded_once_whoever_asks(stub: StubModel) -> None:
    one = Session()
    assert torch.equal(one.lookup(stub, list("abca")).rows(), rows_of("abca"))
    assert torch.equal(one.lookup(stub, list("cbd")).rows(), rows_of("cbd"))
    assert stub.encoded == list("abcd")
    assert (one.num_requested, one.num_encoded) == (7, 4)


def test_all_sizes_come_from_one_encoding(stub: StubModel) -> None:
    one = Session()
    for dim in (1, 2, 3):
        rows = one.lookup(stub, list("ab"), EncodeOptions(truncate_dim=dim)).rows()
        assert torch.equal(rows, rows_of("ab")[:, :dim])
    rows = one.lookup(stub, list("ab"), EncodeOptions(truncate_dim=3, normalize=True)).rows()
    assert torch.equal(rows, torch.nn.functional.normalize(rows_of("ab")[:, :3], dim=1))
    assert len(stub.calls) == 1


def test_slices_do_not_copy_the_table() -> None:
    one, model = Session(), tiny_model()
    whole, part = one.lookup(model, TEXTS), one.lookup(model, TEXTS, EncodeOptions(truncate_dim=4))
    assert whole.table.data_ptr() == part.table.data_ptr()


def test_what_was_handed_out_stays_as_it_was_when_the_table_grows() -> None:
    one, model = Session(), tiny_model()
    first = one.lookup(model, TEXTS[:3])
    before = first.rows().clone()
    one.lookup(model, TEXTS)
    assert torch.equal(first.rows(), before)


@pytest.mark.parametrize("make", [tiny_model, tiny_static_model])
def test_tasks_share_a_text_where_the_model_treats_them_alike(make: Any) -> None:
    one, model = Session(), make()
    for options in (EncodeOptions(), QUERY, DOCUMENT, EncodeOptions(prompt="")):
        one.lookup(model, TEXTS, options)
    assert one.num_encoded == 8


@pytest.mark.parametrize(
    ("make", "num_encoded"),
    [
        (tiny_router_model, 3 * 8),
        (lambda: tiny_model(prompts={"query": "find : ", "document": "passage : "}), 3 * 8),
        (lambda: tiny_model(prompts={"query": "find : "}), 2 * 8),
        (lambda: tiny_model(prompts={"document": "passage : "}), 2 * 8),
    ],
)
def test_tasks_do_not_share_where_prompt_or_route_differ(make: Any, num_encoded: int) -> None:
    one, model = Session(), make()
    for options in (EncodeOptions(), QUERY, DOCUMENT):
        one.lookup(model, TEXTS, options)
    assert one.num_encoded == num_encoded


def test_a_prompt_and_the_name_of_it_are_the_same() -> None:
    one, model = Session(), tiny_model(prompts={"query": "find : "})
    for options in (QUERY, EncodeOptions(prompt="find : "), EncodeOptions(prompt_name="query")):
        one.lookup(model, TEXTS, options)
    assert one.num_encoded == 8


def test_two_models_share_nothing() -> None:
    one, student, teacher = Session(), tiny_model(seed=1), tiny_model(seed=2)
    assert not torch.allclose(one.lookup(student, TEXTS).rows(), one.lookup(teacher, TEXTS).rows())


def test_prefetch_encodes_the_union_in_one_go(stub: StubModel) -> None:
    one = Session()
    one.prefetch(stub, [(list("ab"), None), (list("bc"), EncodeOptions(truncate_dim=2)), ([], None)])
    assert stub.encoded == list("abc")
    one.lookup(stub, list("cab"))
    assert len(stub.calls) == 1
    assert (one.num_requested, one.num_encoded) == (3, 3)


def test_prefetch_obeys_the_smallest_batch_size(stub: StubModel) -> None:
    requests = [(list("ab"), EncodeOptions(batch_size=7)), (list("bc"), EncodeOptions(batch_size=5))]
    Session().prefetch(stub, requests)
    assert stub.calls[0][2]["batch_size"] == 5


def test_there_is_little_padding() -> None:
    shuffle = random.Random(1)
    texts = [" ".join(shuffle.choices(WORDS, k=shuffle.randint(1, 40))) for _ in range(1500)]
    one = Session()
    one.lookup(tiny_model(), texts)
    assert one.num_tokens < one.num_padded_tokens < 1.05 * one.num_tokens


# -- joining ----------------------------------------------------------------------------------------------------------


def test_a_session_joins_the_one_that_is_open() -> None:
    with session(batch_size=3) as outer:
        with session(batch_size=5) as inner:
            assert inner is outer
        with session() as again:
            assert again is outer
        assert outer.batch_size == 3
    with session() as later:
        assert later is not outer


def test_a_session_is_closed_by_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside"), session() as broken:
        raise RuntimeError("inside")
    with session() as later:
        assert later is not broken


def test_a_new_session_encodes_anew(stub: StubModel) -> None:
    for _ in range(2):
        with session() as current:
            current.lookup(stub, list("ab"))
    assert stub.encoded == list("abab")


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_bytes", [0, 40, None])
@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 100])
@pytest.mark.usefixtures("small_chunks")
def test_a_stream_gives_blocks_in_order_whatever_is_kept(
    stub: StubModel, block_size: int, cache_bytes: int | None
) -> None:
    one = Session(cache_bytes=cache_bytes)
    one.lookup(stub, list("dh"), DOCUMENT)
    for _ in range(2):
        blocks = list(one.stream(stub, list("abcadeffgb"), DOCUMENT, block_size))
        assert all(len(block) == block_size for block in blocks[:-1])
        assert torch.equal(torch.cat(blocks), rows_of("abcadeffgb"))


@pytest.mark.parametrize("make", [tiny_model, tiny_static_model, tiny_router_model])
@pytest.mark.usefixtures("small_chunks")
def test_streamed_rows_are_those_of_a_lookup(make: Any) -> None:
    model, options = make(), EncodeOptions(task="document", truncate_dim=5, normalize=True)
    rows = torch.cat(list(Session(cache_bytes=0).stream(model, TEXTS, options, 2)))
    torch.testing.assert_close(rows, Session().lookup(model, TEXTS, options).rows(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cache_bytes", "num_encoded"), [(None, 8), (10**6, 8), (0, 16), (3 * 16, 16 - 3)])
@pytest.mark.usefixtures("small_chunks")
def test_a_stream_keeps_what_fits_for_the_next_one(stub: StubModel, cache_bytes: int | None, num_encoded: int) -> None:
    one = Session(cache_bytes=cache_bytes)
    for _ in range(2):
        for _ in one.stream(stub, list("abcdefgh"), block_size=3):
            pass
    assert one.num_encoded == num_encoded
    assert one.num_requested == 16


@pytest.mark.usefixtures("small_chunks")
def test_a_stream_encodes_no_further_than_it_is_read(stub: StubModel) -> None:
    blocks = Session().stream(stub, list("abcdefgh"), block_size=1)
    next(blocks)
    assert stub.encoded == list("abc")


def test_a_kept_stream_takes_no_more_memory_than_its_rows() -> None:
    one, model = Session(), tiny_model()
    for _ in one.stream(model, TEXTS, block_size=4):
        pass
    assert one.kept.num_bytes <= len(TEXTS) * 16 * 4


def test_a_stream_without_inputs_has_no_blocks(stub: StubModel) -> None:
    assert list(Session().stream(stub, [])) == []


def test_a_block_has_at_least_one_row(stub: StubModel) -> None:
    with pytest.raises(ValueError, match="block_size=0"):
        list(Session().stream(stub, ["a"], block_size=0))


# -- other objects and inputs -----------------------------------------------------------------------------------------


def test_tasks_call_the_method_of_their_name(stub: StubModel) -> None:
    for options in (EncodeOptions(prompt="p", batch_size=4), QUERY, EncodeOptions(task="document", prompt_name="n")):
        Session().lookup(stub, ["a"], options)
    assert [method for method, _, _ in stub.calls] == ["encode", "encode_query", "encode_document"]
    assert stub.calls[0][2]["prompt"] == "p"
    assert stub.calls[0][2]["batch_size"] == 4
    assert "batch_size" not in stub.calls[1][2]
    assert stub.calls[2][2]["prompt_name"] == "n"


class OnlyEncode:
    """The least a model can be."""

    def __init__(self, form: Any) -> None:
        self.form = form
        self.num_calls = 0

    def encode(self, sentences: list[Any]) -> Any:
        self.num_calls += 1
        return self.form([[float(len(text)), 1.0] for text in sentences])


@pytest.mark.parametrize(
    "form",
    [
        torch.tensor,
        lambda rows: torch.tensor(rows).numpy(),
        lambda rows: [torch.tensor(row) for row in rows],
        lambda rows: [torch.tensor(row).numpy() for row in rows],
        lambda rows: rows,
    ],
)
def test_an_object_with_a_plain_encode_works_whatever_it_returns(form: Any) -> None:
    one, model = Session(), OnlyEncode(form)
    for options in (QUERY, DOCUMENT, None):
        rows = one.lookup(model, ["abc", "d", "abc"], options).rows()
        assert rows.tolist() == [[3, 1], [1, 1], [3, 1]]
    assert model.num_calls == 1


def test_inputs_that_cannot_be_hashed_are_encoded_once_an_object_and_let_go_with_the_session() -> None:
    class Image:
        __hash__ = None  # type: ignore[assignment]

        def __init__(self, size: int) -> None:
            self.size = size

        def __len__(self) -> int:
            return self.size

    one, model = Session(), OnlyEncode(torch.tensor)
    first, second = Image(2), Image(2)
    inputs = [first, second, "abc", first]
    one.prefetch(model, [(inputs, None)])
    for _ in range(2):
        assert one.lookup(model, inputs).rows().tolist() == [[2, 1], [2, 1], [3, 1], [2, 1]]
    assert torch.cat(list(one.stream(model, inputs, block_size=2))).tolist() == [[2, 1], [2, 1], [3, 1], [2, 1]]
    assert one.num_encoded == 3
    first.size = 5
    assert Session().lookup(model, inputs).rows().tolist() == [[5, 1], [2, 1], [3, 1], [5, 1]]
    gone = weakref.ref(second)
    del one, inputs, first, second
    gc.collect()
    assert gone() is None


def test_equal_inputs_of_different_types_are_told_apart() -> None:
    class Types:
        def encode(self, inputs: list[Any]) -> torch.Tensor:
            return torch.tensor([[float(isinstance(one, float)), float(isinstance(one, bool))] for one in inputs])

    assert Session().lookup(Types(), [1, 1.0, True]).rows().tolist() == [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("inputs", [("a", "b"), iter(["a", "b"])])
def test_any_series_of_texts_is_taken(stub: StubModel, inputs: Any) -> None:
    assert torch.equal(Session().lookup(stub, inputs).rows(), rows_of("ab"))


def test_no_inputs_have_no_embeddings(stub: StubModel) -> None:
    for model in (stub, tiny_model()):
        embeddings = Session().lookup(model, [])
        assert len(embeddings.rows()) == 0
    assert stub.calls == []


def test_a_single_text_is_refused(stub: StubModel) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        Session().lookup(stub, "abc")


def test_an_object_without_encode_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no encode"):
        Session().lookup(object(), ["a"])


def test_an_encode_that_loses_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 2 inputs"):
        Session().lookup(OnlyEncode(lambda rows: torch.tensor(rows[:1])), ["a", "b"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "passage"}, "task='passage'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"truncate_dim": 0}, "truncate_dim"),
    ],
)
def test_options_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncodeOptions(**settings)


# -- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_session", "of_options", "shows"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_a_bar_over_all_texts_is_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], of_session: bool, of_options: bool, shows: bool
) -> None:
    model = tiny_model()
    capsys.readouterr()
    one = Session(show_progress_bar=of_session)
    one.lookup(model, TEXTS, EncodeOptions(show_progress_bar=of_options, batch_size=3))
    list(one.stream(model, [*TEXTS, "a new text"], EncodeOptions(show_progress_bar=of_options)))
    shown = capsys.readouterr().err
    assert ("8/8" in shown, "10/10" in shown) == (shows, shows)


def test_a_bar_is_shown_on_the_main_process_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    capsys.readouterr()
    monkeypatch.setattr(distributed, "is_main_process", lambda: False)
    Session(show_progress_bar=True).lookup(model, TEXTS)
    assert capsys.readouterr().err == ""
