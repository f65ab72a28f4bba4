"""Runs scenarios in several processes at once, as `torchrun` starts them, and brings their results back.

A scenario is a function of a module; it takes the folder of its launch and returns something JSON can hold. All
scenarios of a launch run in the same processes, one after another, so one that leaves processes out of step is seen by
those after it.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Told:
    """What one process told of a scenario.

    Attributes:
        value: What it returned, None when it raised.
        error: The whole traceback, "" without one.
        kind: Class of the error.
        seconds: How long it took.
    """

    value: Any
    error: str
    kind: str
    seconds: float


def environment() -> dict[str, str]:
    """What a process of its own needs to find the project and its tests' helpers."""
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def launch(
    module: str, names: Sequence[str], num_processes: int, folder: Path, timeout: float = 300
) -> dict[str, list[Told]]:
    """Run scenarios under `torchrun` on CPU.

    Args:
        module: Where the scenarios are, importable from the project's root.
        names: Their names, in order.
        num_processes: How many processes.
        folder: Where they write.
        timeout: Seconds after which all are killed.

    Returns:
        What each process told, by scenario.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={num_processes}", "--standalone"]
    command += ["-m", "support.processes", module, str(folder), *names]
    done = subprocess.run(
        command, env=environment(), cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    each = []
    for index in range(num_processes):
        path = folder / f"told_{index}.json"
        if not path.exists():
            raise RuntimeError(f"process {index} ended early:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        each.append(json.loads(path.read_text(encoding="utf-8")))
    return {name: [Told(**one[name]) for one in each] for name in names}


def alone(module: str, name: str, folder: Path) -> Any:
    """The value of a scenario in this process, without others."""
    return _plain(getattr(importlib.import_module(module), name)(folder))


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two values are equal, numbers within an absolute or relative tolerance; NaN equals NaN."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _tell(scenario: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    value, error, kind = None, "", ""
    try:
        value = _plain(scenario(folder))
    except BaseException as raised:
        error, kind = traceback.format_exc(), type(raised).__name__
    return {"value": value, "error": error, "kind": kind, "seconds": time.perf_counter() - start}


def main(module: str, folder: str, *names: str) -> None:
    """One of the processes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    scenarios = importlib.import_module(module)
    # Models are made through files, which transformers writes on the main process only once there are several.
    scenarios.prepare()
    dist.init_process_group("gloo")
    told = {}
    for name in names:
        told[name] = _tell(getattr(scenarios, name), Path(folder))
        # Written as they come: what a hang leaves is then known.
        path = Path(folder) / f"told_{dist.get_rank()}.json"
        path.write_text(json.dumps(told), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
