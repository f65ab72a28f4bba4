from __future__ import annotations

import gc
import os
import sys

# Before anything imports a library that reads it: models come from packages or are built in the tests.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import settings

# Scripts and helpers in there are imported by tests, they hold none.
collect_ignore = ["support"]

# Tiny models gain nothing from a second thread, which spins; on shared cores that took ten times as long.
torch.set_num_threads(1)

# The same examples in every run: a failure must be there for whoever looks next.
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("tests")


@pytest.fixture
def matplotlib_is_there() -> None:
    """Leave matplotlib as it is, for tests that draw."""


@pytest.fixture(autouse=True)
def _no_matplotlib(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every training ends with a plot where matplotlib is there: hundreds of them, which no test looks at.
    if "matplotlib_is_there" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


def pytest_collection_finish() -> None:
    """Take all that is imported out of garbage collection: the Trainer collects before each training."""
    gc.collect()
    gc.freeze()
