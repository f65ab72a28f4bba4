"""Models of any kind, loaded by name or path."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint_folders
from .problems import Problem, did_you_mean


class Kind(str, Enum):
    """Kinds of model."""

    DENSE = "dense"
    SPARSE = "sparse"
    CROSS_ENCODER = "cross_encoder"
    MULTI_VECTOR = "multi_vector"


# What sentence-transformers writes into `config_sentence_transformers.json`; "ColBERT" is PyLate's word.
_KINDS = {
    "SentenceTransformer": Kind.DENSE,
    "SparseEncoder": Kind.SPARSE,
    "CrossEncoder": Kind.CROSS_ENCODER,
    "MultiVectorEncoder": Kind.MULTI_VECTOR,
    "ColBERT": Kind.MULTI_VECTOR,
}


def kind_of(name: str) -> Kind:
    """The kind of a saved model: as it says itself, else by its modules or its architecture, else dense.

    Args:
        name: Folder, or name on the Hub.
    """
    stated = _KINDS.get(str(_config(name, "config_sentence_transformers.json", {}).get("model_type")))
    if stated is not None:
        return stated
    modules = _config(name, "modules.json", [])
    if modules:
        is_sparse = any("sparse_encoder" in str(module.get("type")) for module in modules)
        return Kind.SPARSE if is_sparse else Kind.DENSE
    architectures = _config(name, "config.json", {}).get("architectures") or []
    if "HF_ColBERT" in architectures:
        return Kind.MULTI_VECTOR
    is_classifier = any(str(one).endswith("ForSequenceClassification") for one in architectures)
    return Kind.CROSS_ENCODER if is_classifier else Kind.DENSE


def load_model(name: str, kind: Kind | None = None, device: str | None = None) -> Any:
    """Load a model or a checkpoint.

    Args:
        name: Folder, or name on the Hub.
        kind: Its kind; None finds out.
        device: Where it computes; None leaves that to sentence-transformers.

    Raises:
        Problem: When it cannot be loaded.
    """
    _refuse_what_is_no_model(name)
    import sentence_transformers

    try:
        kind = kind_of(name) if kind is None else kind
        classes = {
            found: getattr(sentence_transformers, title) for title, found in _KINDS.items() if title != "ColBERT"
        }
        return classes[kind](name, device=device)
    except Exception as error:
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        wanted = f" as {kind.value}" if kind else ""
        # A name with one slash may be meant for the Hub or for a folder.
        raise Problem(f"the model {name!r} cannot be loaded{wanted}: {told}{_near(Path(name))}") from error


def trained_steps(name: str) -> tuple[int, float]:
    """Step and epoch that a checkpoint is of; 0 for any other model.

    Raises:
        Problem: When its file cannot be read.
    """
    path = Path(name) / "trainer_state.json"
    if not path.is_file():
        return 0, 0.0
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return int(state["global_step"]), float(state.get("epoch") or 0.0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{path} is broken ({type(error).__name__}): delete it to evaluate the model.") from error


def _refuse_what_is_no_model(name: str) -> None:
    path = Path(name)
    if path.is_dir():
        is_model = any((path / one).is_file() for one in ("modules.json", "config.json", "adapter_config.json"))
        checkpoints = checkpoint_folders(path)
        if checkpoints and not is_model:
            raise Problem(f"{name} is the output_dir of a run; name a model in it, such as {checkpoints[-1][1]}.")
        if not is_model:
            raise Problem(f"there is no model in {name}: neither modules.json nor config.json.")
    elif not path.exists() and (path.is_absolute() or name.startswith(".") or len(path.parts) > 2):
        raise Problem(f"there is no {name}.{_near(path)}")


def _near(path: Path) -> str:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    return "" if path.exists() else did_you_mean(path.name, beside)


def _config(name: str, file: str, default: Any) -> Any:
    from sentence_transformers.util import load_file_path

    path = load_file_path(name, file)
    return default if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
