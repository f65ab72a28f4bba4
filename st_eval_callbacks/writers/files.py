"""Files that are never half written, and never lost."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import tempfile
from pathlib import Path


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a whole file so that a reader, or a crash, sees the old content or the new, nothing between.

    Args:
        path: Where to write; its folder is made when missing.
        content: The new content; text is written as UTF-8.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_temporary_prefix(path), suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are as readable as any other file of the run.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed while it replaced a file has left beside it.

    Args:
        path: The file; nobody else may be writing it.
    """
    for temporary in path.parent.glob(f"{glob.escape(_temporary_prefix(path))}*.tmp"):
        temporary.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    return f".{path.name[:40]}."


def set_aside(path: Path) -> Path | None:
    """Keep an earlier file under the next free number: `results.csv` becomes `results.1.csv`, then `results.2.csv`.

    Args:
        path: The file to move, or the folder.

    Returns:
        Its new path, or None when there was no such file or folder.
    """
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    os.replace(path, kept)
    return kept


def safe_name(name: str) -> str:
    """A file name made of any text: what could leave the folder, or no file system takes, becomes "_".

    A name that had to be changed or shortened gets a few digits of its own, so that no two names share a file.

    Args:
        name: Any text, with or without an ending such as ".csv".

    Returns:
        A name of at most 170 bytes with the same ending.

    Examples:
        >>> safe_name("sts-dev_1.5.csv"), safe_name("a/../b.csv")
        ('sts-dev_1.5.csv', 'a_.._b-ba09d2c2.csv')
    """
    cleaned = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name)
    stem, ending = os.path.splitext(cleaned)
    while len(stem.encode()) > 140:
        stem = stem[:-1]
    if stem + ending == name:
        return name
    return f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}{ending[:20]}"
