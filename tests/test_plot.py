"""The picture of a run: what it shows, where it is, and that a model's card shows it."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from support.loop import KINDS, Fake, at_steps, crash, make_trainer, read_results
from support.runs import run_of

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.report import Run, plot
from st_eval_callbacks.report.series import default_metrics, panels
from st_eval_callbacks.writers.model_card import set_curves

NAME = "evaluation_curves.png"
PNG = b"\x89PNG\r\n\x1a\n"
VALUES = {0: 0.4, 2: 0.5, 4: 0.7, 6: 0.6}


# -- what stands together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["docs_384_ndcg@10", "docs_128_ndcg@10"], {"docs_*_ndcg@10": {"384": 0, "128": 1}}),
        (["sts-dev-64_spearman", "sts-dev-256_spearman"], {"sts-dev-*_spearman": {"256": 1, "64": 0}}),
        (["dim_64_mrr@10", "dim_128_mrr@10"], {"dim_*_mrr@10": {"128": 1, "64": 0}}),
        (["dim64_mrr@10", "dim128_mrr@10"], {"*_mrr@10": {"128": 1, "64": 0}}),
        (["128_docs", "256_docs"], {"*_docs": {"256": 1, "128": 0}}),
        (["docs_128", "docs_256", "sts"], {"docs_*": {"256": 1, "128": 0}, "sts": {"": 2}}),
        (["docs_128", "sts_128"], {"docs_128": {"": 0}, "sts_128": {"": 1}}),
        (["docs_ndcg@10", "docs_ndcg@100"], {"docs_ndcg@10": {"": 0}, "docs_ndcg@100": {"": 1}}),
        (
            ["sts_2012_64_r", "sts_2012_32_r", "sts_2013_64_r", "sts_2013_32_r"],
            {"sts_2012_*_r": {"64": 0, "32": 1}, "sts_2013_*_r": {"64": 2, "32": 3}},
        ),
        (["docs_64", "docs_064"], {"docs_64": {"": 0}, "docs_064": {"": 1}}),
    ],
)
def test_sizes_of_one_metric_share_a_panel(metrics: list[str], expected: dict[str, dict[str, int]]) -> None:
    found = {panel.title: panel.metrics for panel in panels(metrics)}
    places = {title: {label: metrics.index(name) for label, name in named.items()} for title, named in found.items()}
    assert places == expected


def test_the_other_sizes_of_a_primary_metric_are_drawn_with_it() -> None:
    run = run_of({"docs_64_ndcg@10": VALUES, "docs_32_ndcg@10": VALUES, "docs_64_mrr@10": VALUES})
    only_first = type(run.info)(run.info.deciding_metric, True, evaluators=run.info.evaluators[:1])
    assert default_metrics(Run(run.folder, run.history, only_first)) == ["docs_64_ndcg@10", "docs_32_ndcg@10"]


# -- what is drawn ---------------------------------------------------------------------------------------------------


def titles(figure: Any) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.usefixtures("matplotlib_is_there")
def test_a_panel_tells_the_best_by_its_own_direction(tmp_path: Path) -> None:
    run = run_of({"docs": VALUES, "mse": {2: 3.0, 4: 1.0, 6: 2.0}}, lower=["mse"])
    figure = plot(run, tmp_path / "a.png")
    assert titles(figure) == ["docs *\nbest 0.7000 at step 4", "mse\nbest (lowest) 1.0000 at step 4"]
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert figure.dpi == 150
    # The baseline, the best of the run, and the lines themselves.
    first, second = figure.axes
    assert {line.get_linestyle() for line in first.lines} > {"-"}
    assert any(list(line.get_ydata()) == [0.4, 0.4] for line in first.lines)
    assert not any(list(line.get_ydata()) == [3.0, 3.0] for line in second.lines)
    assert all(any(list(line.get_xdata()) == [4, 4] for line in axes.lines) for axes in (first, second))


@pytest.mark.usefixtures("matplotlib_is_there")
def test_lines_of_one_panel_differ_by_more_than_colour() -> None:
    run = run_of(
        {f"docs_{size}": {step: value + size / 1000 for step, value in VALUES.items()} for size in range(8, 16)}
    )
    [axes] = plot(run).axes
    drawn = axes.get_legend().get_lines()
    looks = {(str(line._dash_pattern), line.get_marker()) for line in drawn}
    assert len(looks) == len(drawn) == 8
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == "15: 0.7150 at step 4"
    assert labels[-1] == "8 *: 0.7080 at step 4"


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({2: 0.5}, "best 0.5000 at step 2"),
        ({0: 0.5}, "before training 0.5000"),
        ({0: math.nan, 2: math.nan}, "no finite value"),
        ({0: 0.5, 2: math.nan, 4: 0.25, 6: math.nan, 8: math.inf}, "best 0.2500 at step 4"),
        ({step: 12_345.0 + step for step in range(0, 90_000, 100)}, "best 102245 at step 89900"),
        ({0: 1e-6, 2: 2e-6}, "best 2e-06 at step 2"),
    ],
    ids=["one", "only before", "undefined", "gaps", "long", "tiny"],
)
def test_any_values_can_be_drawn(values: dict[int, float], title: str, tmp_path: Path) -> None:
    figure = plot(run_of({"docs": values}), tmp_path / "a.png")
    assert titles(figure) == [f"docs *\n{title}"]
    # What stands alone between gaps has a marker of its own.
    alone = [x for line in figure.axes[0].lines for x in line.get_xdata() if line.get_linestyle() == "None"]
    assert 4 in alone or len(values) != 5


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize(("num_metrics", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (13, 3)])
def test_panels_and_titles_stay_apart_and_on_the_page(num_metrics: int, columns: int, tmp_path: Path) -> None:
    letters = "abcdefghijklm"
    names = [f"a_very_long_name_of_a_dataset_$x${letters[i]}_cosine_ndcg@10" for i in range(num_metrics)]
    figure = plot(run_of(dict.fromkeys(names, VALUES)), tmp_path / "a.png", title="<All> $of$ it")
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    renderer = figure.canvas.get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:place])


@pytest.mark.usefixtures("matplotlib_is_there")
def test_metrics_are_chosen_by_name() -> None:
    run = run_of({"docs": VALUES, "sts": VALUES})
    assert [title.split("\n")[0] for title in titles(plot(run, metrics=["eval_sts"]))] == ["sts"]
    assert [title.split("\n")[0] for title in titles(plot(run.history))] == ["docs", "sts"]
    with pytest.raises(ValueError, match="'doc' was not measured in this run. Did you mean 'docs'"):
        plot(run, metrics=["doc"])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot(run_of({"docs": {}}))


@pytest.mark.usefixtures("matplotlib_is_there")
def test_drawing_in_a_thread_needs_no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with ThreadPoolExecutor(4) as pool:
        figures = list(pool.map(plot, [run_of({"docs": VALUES})] * 4))
    assert [len(figure.axes) for figure in figures] == [1] * 4


# -- the end of training ---------------------------------------------------------------------------------------------


def callbacks(**options: Any) -> list[Any]:
    docs = Fake({0: 0.4, **at_steps(0.5, 0.7, 0.6, 0.65)}, "docs")
    return [EvaluatorCallback(Scheduled(docs, every=2, at_start=True), load_best_model_at_end=True, **options)]


SAVES = {"save_strategy": "steps", "save_steps": 4}


def train(folder: Path, kind: str = "dense", **options: Any) -> Any:
    trainer = make_trainer(folder, callbacks(**options), kind, **SAVES)
    trainer.train()
    return trainer


def repickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def linked(folder: Path) -> list[str]:
    """What the card in a folder shows as pictures."""
    return re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize("kind", KINDS)
def test_cards_saved_after_training_show_the_curves(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = train(tmp_path, kind)
    picture = (tmp_path / NAME).read_bytes()
    assert picture.startswith(PNG)
    assert f"curves: {tmp_path / NAME}" in capsys.readouterr().out
    trainer.save_model(str(tmp_path / "final"))
    trainer.model.save_pretrained(str(tmp_path / "elsewhere"))
    # As `push_to_hub` does, for the folder it uploads.
    trainer.create_model_card(model_name="me/mine")
    for folder in (tmp_path / "final", tmp_path / "elsewhere", tmp_path):
        assert linked(folder) == [f"assets/{NAME}"]
        assert (folder / linked(folder)[0]).read_bytes() == picture
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert text.index(NAME) < text.index("| Epoch")
    for step in (4, 8):
        assert linked(tmp_path / f"checkpoint-{step}") == []


@pytest.mark.usefixtures("matplotlib_is_there")
def test_a_long_training_table_is_folded_away_below_the_curves(tmp_path: Path) -> None:
    trainer = train(tmp_path)
    card = trainer.model.model_card_data
    card.training_logs += [{"Epoch": 3.0, "Step": 100 + i, "Training Loss": 0.5} for i in range(100)]
    trainer.save_model(str(tmp_path / "final"))
    text = (tmp_path / "final" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("### Training Logs") : text.index("### Training Time")]
    places = [section.index(part) for part in (NAME, "<details>", "| Epoch", "</details>", "The bold row")]
    assert places == sorted(places)
    assert section.count("details>") == 2


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize("way", [copy.deepcopy, repickled])
def test_the_curves_go_along_with_a_copy_of_the_model(way: Any, tmp_path: Path) -> None:
    model = train(tmp_path).model
    other = way(model)
    other.model_card_data.training_logs = other.model_card_data.training_logs[:1]
    other.save_pretrained(str(tmp_path / "other"))
    assert linked(tmp_path / "other") == [f"assets/{NAME}"]
    text = (tmp_path / "other" / "README.md").read_text(encoding="utf-8")
    # The card is the copy's own.
    assert len(re.findall(r"^\| [\d*]", text, re.MULTILINE)) >= 1
    assert "0.65" not in text[text.index("### Training Logs") : text.index("### Training Time")]


@pytest.mark.usefixtures("matplotlib_is_there")
def test_a_second_training_of_the_model_shows_no_curves_of_the_first(tmp_path: Path) -> None:
    trainer = train(tmp_path)
    trainer.train()
    assert linked(tmp_path / "checkpoint-4") == []
    # Those of the first are kept beside its table.
    assert {path.name for path in tmp_path.glob("evaluation_curves*")} == {NAME, "evaluation_curves.1.png"}


@pytest.mark.usefixtures("matplotlib_is_there")
def test_after_a_resume_the_curves_are_those_of_the_whole_run(tmp_path: Path) -> None:
    crash(tmp_path, 5, callbacks(), **SAVES)
    assert not (tmp_path / NAME).exists()
    make_trainer(tmp_path, callbacks(), **SAVES).train(resume_from_checkpoint=True)
    cut = (tmp_path / NAME).read_bytes()
    train(tmp_path / "whole")
    assert (tmp_path / "whole" / NAME).read_bytes() == cut
    assert list(tmp_path.glob(".evaluation*")) == []


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize("how", ["switched off", "one step"])
def test_nothing_is_drawn(how: str, tmp_path: Path) -> None:
    if how == "one step":
        trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5), every=8)])
        trainer.train()
    else:
        trainer = train(tmp_path, plot=False)
    trainer.save_model(str(tmp_path / "final"))
    assert not (tmp_path / NAME).exists()
    assert linked(tmp_path / "final") == []


def test_without_matplotlib_all_else_is_as_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = train(tmp_path)
    trainer.save_model(str(tmp_path / "final"))
    assert not (tmp_path / NAME).exists()
    assert linked(tmp_path / "final") == []
    assert NAME not in caplog.text


@pytest.mark.usefixtures("matplotlib_is_there")
def test_a_picture_that_cannot_be_drawn_is_no_end_of_a_finished_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("st_eval_callbacks.report.curves.replace_file", full)
    trainer = train(tmp_path)
    trainer.save_model(str(tmp_path / "final"))
    [record] = [record for record in caplog.records if NAME in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert str(tmp_path / NAME) in record.getMessage()
    assert record.exc_info is not None
    assert "no space left" in str(record.exc_info[1])
    assert linked(tmp_path / "final") == []
    assert len(read_results(tmp_path)) == 5


def test_a_card_that_is_saved_nowhere_links_nothing(tmp_path: Path) -> None:
    model = SentenceTransformer(modules=list(KINDS["dense"].model()), device="cpu")
    model.model_card_data.training_logs = [{"Epoch": 1.0, "Step": 1, "Training Loss": 0.5}]
    set_curves(model, PNG)
    assert NAME not in str(model.model_card_data.to_dict()["eval_lines"])
    set_curves(model, None)
    assert "to_dict" not in vars(model.model_card_data)
