from __future__ import annotations

import gc
import os

# Before anything imports a library that reads it: models come from packages or are built in the tests.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from hypothesis import settings

# Scripts and helpers in there are imported by tests, they hold none.
collect_ignore = ["support"]

# Tiny models gain nothing from a second thread, which spins; on shared cores that took ten times as long.
torch.set_num_threads(1)

# The same examples in every run: a failure must be there for whoever looks next.
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Take all that is imported out of garbage collection: the Trainer collects before each training."""
    gc.collect()
    gc.freeze()
