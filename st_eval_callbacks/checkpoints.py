"""Which checkpoint can be resumed from: one that was written whole."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
_FOLDER = re.compile(r"checkpoint-([0-9]+)")


def is_complete(folder: str | Path) -> bool:
    """Whether a checkpoint was written to its end: the Trainer writes its state last, after model and optimizer.

    Args:
        folder: A `checkpoint-<step>` folder.
    """
    try:
        json.loads((Path(folder) / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def checkpoint_folders(output_dir: str | Path) -> list[tuple[int, Path]]:
    """All `checkpoint-<step>` folders of a run with their steps, ascending, whole or not."""
    found = [
        (match, path) for path in Path(output_dir).glob("checkpoint-*") if (match := _FOLDER.fullmatch(path.name))
    ]
    return sorted((int(match[1]), path) for match, path in found if path.is_dir())


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint of a run that was written whole.

    A run that is killed while it saves leaves a folder that cannot be loaded; it is passed over with a warning. None
    starts anew, so one line serves the first start and every later one:
    `trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))`.

    Args:
        output_dir: The `output_dir` of the run; it need not exist.

    Returns:
        The folder of the checkpoint, or None when there is none.
    """
    for _, path in reversed(checkpoint_folders(output_dir)):
        if is_complete(path):
            return str(path)
        logger.warning("%s was not written to its end and cannot be resumed from.", path)
    return None


def delete_unfinished(output_dir: str | Path) -> None:
    """Delete checkpoints that were cut short while they were written or deleted.

    For runs with a total limit: the Trainer deletes what was changed longest ago, so it would keep a folder whose
    deletion was cut short and delete a whole one instead.

    Args:
        output_dir: The `output_dir` of the run.
    """
    for _, path in checkpoint_folders(output_dir):
        if not is_complete(path):
            logger.warning("%s was cut short and is deleted, because of save_total_limit.", path)
            shutil.rmtree(path)


def mark_unfinished(folder: str | Path) -> None:
    """Take a checkpoint for cut short from now on, until its state is written again.

    Called before its files are written anew or deleted, one by one: whoever is killed in between leaves a folder that
    nobody resumes from.
    """
    with contextlib.suppress(FileNotFoundError):
        (Path(folder) / STATE_FILE).unlink()
