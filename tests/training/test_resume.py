"""Runs that go on: with other evaluators, after an early stop, from a folder with a checkpoint cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sentence_transformers.base.evaluation import SequentialEvaluator
from support.loop import Fake, StopAt, at_steps, checkpoints, equal_weights, make_trainer, weights_of
from support.models import tiny_model

from st_eval_callbacks import EvaluatorCallback, History, Scheduled, last_checkpoint
from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator, TripletEvaluator

SAVES: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}


def stopped_at(folder: Path, step: int, callback: EvaluatorCallback, **arguments: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(folder, [callback, StopAt(step)], **arguments).train()


def results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "evaluation_results.csv").set_index("steps")


# -- other evaluators -------------------------------------------------------------------------------------------------


def test_an_evaluator_added_on_resume_joins_where_training_stands(tmp_path: Path) -> None:
    old = at_steps(0.2, 0.9, 0.3, 0.4)
    stopped_at(tmp_path, 5, EvaluatorCallback(Fake(old, "old"), every=2), **SAVES)
    new = Fake(0.5, "new")
    callback = EvaluatorCallback([Fake(old, "old"), new], every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], **SAVES)
    trainer.train(resume_from_checkpoint=True)
    rows = results(tmp_path)
    assert rows["old_score"].to_dict() == old
    assert rows["new_score"].isna().tolist() == [True, True, False, False]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 4)
    # On the loaded best once more, for the card: it was not there when that step was evaluated.
    assert new.steps == [6, 8, 4]
    assert trainer.model.model_card_data.eval_results_dict[new] == {"new_score": 0.5}


def test_an_evaluator_removed_on_resume_keeps_its_rows(tmp_path: Path) -> None:
    kept, gone = at_steps(0.2, 0.9, 0.3, 0.4), at_steps(0.1, 0.1, 0.1, 0.1)
    first = EvaluatorCallback([Fake(kept, "kept"), Fake(gone, "gone")], every=2)
    stopped_at(tmp_path, 5, first, **SAVES)
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake(kept, "kept"), every=2)], **SAVES)
    trainer.train(resume_from_checkpoint=True)
    rows = results(tmp_path)
    assert rows["kept_score"].to_dict() == kept
    assert rows["gone_score"].dropna().to_dict() == {2: 0.1, 4: 0.1}
    assert rows["is_best"].tolist() == [1, 1, 0, 0]


def test_another_metric_decides_over_the_whole_run_after_a_resume(tmp_path: Path) -> None:
    values = {"a": at_steps(0.9, 0.1, 0.2, 0.3), "b": at_steps(0.1, 0.9, 0.2, 0.3)}

    def callback(primary: str) -> EvaluatorCallback:
        fakes = [Fake(values[name], name) for name in "ab"]
        return EvaluatorCallback(fakes, every=2, primary=primary, load_best_model_at_end=True)

    arguments = {"save_strategy": "steps", "save_steps": 2}
    stopped_at(tmp_path, 5, callback("a_score"), **arguments)
    trainer = make_trainer(tmp_path, [callback("b_score")], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 4)
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"


def test_the_card_of_evaluators_inside_another_is_the_same_after_a_resume(tmp_path: Path) -> None:
    def train(folder: Path, *others: Any, resume: bool = False) -> Any:
        inner = [Fake(at_steps(0.2, 0.9, 0.3, 0.4), "one"), Fake(at_steps(0.3, 0.1, 0.5, 0.7), "two")]
        sequence = SequentialEvaluator(inner, main_score_function=lambda scores: scores[0])
        callback = EvaluatorCallback(sequence, every=2, primary="one_score", load_best_model_at_end=True)
        trainer = make_trainer(folder, [callback, *others], **SAVES)
        trainer.train(resume_from_checkpoint=resume)
        results = trainer.model.model_card_data.eval_results_dict
        return {getattr(evaluator, "name", None): metrics for evaluator, metrics in results.items()}

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", StopAt(5))
    assert train(tmp_path / "cut", resume=True) == whole
    assert whole == {"one": {"one_score": 0.9}, "two": {"two_score": 0.1}}


# -- after an early stop ----------------------------------------------------------------------------------------------

FALLING = at_steps(0.2, 0.8, 0.5, 0.4, 0.9, 0.9)


def patient(patience: int, fake: Fake, *more: Any) -> EvaluatorCallback:
    return EvaluatorCallback([Scheduled(fake, every=2), *more], early_stopping_patience=patience)


def test_a_run_that_stopped_early_stays_where_it_stopped_when_resumed(tmp_path: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 4, "num_train_epochs": 3}
    first = make_trainer(tmp_path, [patient(2, Fake(FALLING))], **arguments)
    first.train()
    assert first.state.global_step == 8
    fake, late = Fake(FALLING), Fake(0.5, "late")
    again = make_trainer(tmp_path, [patient(2, fake, Scheduled(late, every="50%"))], **arguments)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    assert (fake.steps, late.steps) == ([], [8])
    assert equal_weights(weights_of(again.model), weights_of(first.model))
    assert results(tmp_path)["fake_score"].to_dict() == at_steps(0.2, 0.8, 0.5, 0.4)


def test_a_row_written_after_the_last_checkpoint_is_not_there_twice_after_a_resume(tmp_path: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 8}
    make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5), every=2)], **arguments).train()
    # As a run leaves it that was killed after this evaluator had run at the last step, and before that was saved.
    texts = ["cat", "dog"]
    similarity = EmbeddingSimilarityEvaluator(texts, texts[::-1], [0.0, 1.0], name="late")
    similarity(tiny_model(), str(tmp_path / "eval"), 2.0, 8)
    callback = EvaluatorCallback([Fake(0.5), similarity], every=2)
    make_trainer(tmp_path, [callback], **arguments).train(resume_from_checkpoint=True)
    [table] = (tmp_path / "eval").glob("*.csv")
    assert pd.read_csv(table)["steps"].tolist() == [8]


def test_a_run_that_stopped_early_goes_on_with_more_patience(tmp_path: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 4, "num_train_epochs": 3}
    make_trainer(tmp_path, [patient(2, Fake(FALLING))], **arguments).train()
    trainer = make_trainer(tmp_path, [patient(3, Fake(FALLING))], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 12
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 10)


def test_a_finished_run_that_is_resumed_is_only_told_of_again(tmp_path: Path) -> None:
    values = at_steps(0.2, 0.9, 0.3, 0.4)
    arguments = {"save_strategy": "steps", "save_steps": 4}
    first = make_trainer(
        tmp_path, [EvaluatorCallback(Fake(values), every=2, load_best_model_at_end=True)], **arguments
    )
    first.train()
    fake = Fake(values)
    again = make_trainer(tmp_path, [EvaluatorCallback(fake, every=2, load_best_model_at_end=True)], **arguments)
    again.train(resume_from_checkpoint=True)
    assert fake.steps == []
    assert again.model.model_card_data.eval_results_dict == {fake: {"fake_score": 0.9}}
    assert equal_weights(weights_of(again.model), weights_of(first.model))
    assert results(tmp_path)["fake_score"].to_dict() == values


# -- checkpoints cut short --------------------------------------------------------------------------------------------


def cut_short(folder: Path, step: int, state: str | None) -> None:
    path = folder / f"checkpoint-{step}"
    path.mkdir(exist_ok=True, parents=True)
    (path / "model.safetensors").write_bytes(b"half a")
    if state is not None:
        (path / "trainer_state.json").write_text(state)


@pytest.mark.parametrize("state", [None, "", '{"log_history": [{"step": 4, "ev'])
@pytest.mark.parametrize("limit", [None, 2])
def test_a_checkpoint_cut_short_is_passed_over(
    tmp_path: Path, state: str | None, limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    values = at_steps(0.2, 0.9, 0.3, 0.4)
    arguments = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": limit}
    stopped_at(tmp_path, 5, EvaluatorCallback(Fake(values), every=2), **arguments)
    cut_short(tmp_path, 7, state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert len(History.read(tmp_path)) == 2
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake(values), every=2)], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert "checkpoint-7 was" in caplog.text
    assert results(tmp_path)["fake_score"].to_dict() == values
    assert checkpoints(tmp_path) == ([2, 4, 7, 8] if limit is None else [4, 8])


def test_without_a_whole_checkpoint_there_is_nothing_to_resume_from(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    cut_short(tmp_path, 4, None)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) is None
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake())])
    with pytest.raises(ValueError, match="nothing to resume from"):
        trainer.train(resume_from_checkpoint=True)
    trainer.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert trainer.state.global_step == 8


@pytest.mark.parametrize(
    ("content", "is_kept"),
    [
        (b"\xff\xfes\x00t\x00", True),
        (b"epoch;steps;fake_score\n0,5;2;0,1\n", True),
        (b"epoch,steps,note\n0.5,2,good\n,,the best so far\n", True),
        (b"epoch,steps\n0.5,3.0\n", True),
        (b"epoch,steps\n0.5,2.0\n", False),
        (b"", False),
    ],
)
def test_a_table_that_somebody_has_changed_stops_no_resume_and_is_kept(
    content: bytes, is_kept: bool, tmp_path: Path
) -> None:
    stopped_at(tmp_path, 5, EvaluatorCallback(Fake(0.5), every=2), **SAVES)
    (tmp_path / "evaluation_results.csv").write_bytes(content)
    make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5), every=2)], **SAVES).train(resume_from_checkpoint=True)
    assert list(results(tmp_path).index) == [2, 4, 6, 8]
    aside = tmp_path / "evaluation_results.1.csv"
    assert aside.exists() == is_kept
    assert not is_kept or aside.read_bytes() == content


@pytest.mark.parametrize("content", [b"epoch,steps,accuracy\n0.5,two,1\n", b"\xff\xfe"])
def test_a_table_of_an_evaluator_that_somebody_has_changed_stops_no_resume(content: bytes, tmp_path: Path) -> None:
    def callback() -> EvaluatorCallback:
        return EvaluatorCallback(TripletEvaluator(["a cat"], ["a dog"], ["the fish"], name="t"), every=2)

    stopped_at(tmp_path, 5, callback(), **SAVES)
    table = tmp_path / "eval" / "triplet_evaluation_t_results.csv"
    table.write_bytes(content)
    make_trainer(tmp_path, [callback()], **SAVES).train(resume_from_checkpoint=True)
    assert table.with_name("triplet_evaluation_t_results.1.csv").read_bytes() == content
    assert list(pd.read_csv(table)["steps"]) == [6, 8]
