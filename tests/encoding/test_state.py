from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from support.models import TEXTS, StubModel, tiny_model
from torch import nn

from st_eval_callbacks.encoding import EncodeOptions, Session, encode_once, untouched


def random_numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_numbers_after_it_are_as_if_it_had_not_been() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with untouched(tiny_model()):
        random_numbers()
    assert random_numbers() == expected


def test_every_submodule_keeps_its_own_mode() -> None:
    model = tiny_model().train()
    frozen = model[0].model.embeddings
    frozen.eval()
    before = {name: module.training for name, module in model.named_modules()}
    with untouched(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == before
    assert not frozen.training
    assert model.training


def test_it_is_put_back_after_an_error_too() -> None:
    model = tiny_model().train()
    torch.manual_seed(1)
    state = torch.get_rng_state()

    def fail() -> None:
        with untouched(model):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_grad_mode_is_put_back_and_off_inside(enabled: bool) -> None:
    with torch.set_grad_enabled(enabled):
        with untouched(tiny_model()):
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled() == enabled


def test_objects_that_are_no_modules_and_several_models_are_taken() -> None:
    teacher, student = tiny_model().train(), tiny_model().eval()
    with untouched(StubModel({}), teacher, student):
        assert not teacher.training
    assert teacher.training
    assert not student.training


def test_a_lookup_encodes_in_evaluation_mode_and_leaves_the_model_in_training() -> None:
    model = tiny_model(dropout=0.5).train()
    rows = Session().lookup(model, TEXTS).rows()
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(rows, model.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)


def test_training_goes_on_after_an_evaluation_as_without_one() -> None:
    losses = []
    for evaluates in (False, True):
        torch.manual_seed(3)
        model = tiny_model(dropout=0.3).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            if evaluates:
                with untouched(model):
                    Session().lookup(model, TEXTS)
            features = model.preprocess(TEXTS)
            loss = model(features)["sentence_embedding"].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:3] == losses[3:]


def test_embeddings_are_ordinary_tensors_without_gradient() -> None:
    rows = Session().lookup(tiny_model().train(), TEXTS).rows()
    assert not rows.requires_grad
    assert not rows.is_inference()
    nn.Linear(16, 1)(rows).sum().backward()


def test_models_that_draw_random_numbers_draw_new_ones_in_each_call() -> None:
    class Noisy:
        def encode(self, inputs: list[str]) -> torch.Tensor:
            return torch.rand(len(inputs), 3)

    session, model = Session(), Noisy()
    first, second = session.lookup(model, ["a"]).rows(), session.lookup(model, ["b"]).rows()
    assert not torch.equal(first, second)


def test_a_teacher_is_encoded_outside_of_any_session_and_left_as_it_was() -> None:
    teacher = tiny_model().train()
    state = torch.get_rng_state()
    embeddings = encode_once(teacher, TEXTS, EncodeOptions(truncate_dim=3))
    assert teacher.training
    assert torch.equal(torch.get_rng_state(), state)
    expected = teacher.encode(TEXTS, convert_to_tensor=True, truncate_dim=3)
    torch.testing.assert_close(embeddings.rows(), expected, atol=1e-5, rtol=0)
