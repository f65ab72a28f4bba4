"""Evaluators that a function in a user's file builds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .problems import Problem, did_you_mean

FUNCTION = "build"


def load_build(given: str) -> Callable[..., Any]:
    """The function that builds evaluators.

    Args:
        given: `file.py:function` or `package.module:function`; the function is `build` where none is named.

    Raises:
        Problem: When the file or the function is not there, or the file fails.
    """
    source, colon, function = given.rpartition(":")
    if not colon or not function.isidentifier():
        # No function is named; a colon may be that of a drive.
        source, function = given.removesuffix(":"), FUNCTION
    module = _import(source)
    found = getattr(module, function, None)
    if not callable(found):
        own = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise Problem(f"there is no function {function!r} in {source}.{did_you_mean(function, own)}")
    build: Callable[..., Any] = found
    return build


def build_evaluators(build: Callable[..., Any], model: Any) -> Any:
    """Call the function: with the model where a parameter is called so, or the first one has to be given.

    Raises:
        Problem: When the function fails.
    """
    try:
        parameters = inspect.signature(build).parameters
        first, named = next(iter(parameters.values()), None), parameters.get("model")
        if named is not None and named.kind in (named.POSITIONAL_OR_KEYWORD, named.KEYWORD_ONLY):
            built = build(model=model)
        elif first is not None and first.default is first.empty and first.kind is not first.VAR_KEYWORD:
            built = build(model)
        else:
            built = build()
        # A generator fails only when it is asked for what it yields.
        return list(built) if inspect.isgenerator(built) else built
    except (Exception, SystemExit) as error:
        name = getattr(build, "__name__", FUNCTION)
        raise Problem(f"{name}() failed: {type(error).__name__}: {error} (--traceback shows where)") from error


def _import(source: str) -> ModuleType:
    path = Path(source)
    is_file = source.endswith(".py")
    if is_file and not path.is_file():
        beside = [one.name for one in path.parent.glob("*.py") if one.is_file()]
        raise Problem(f"there is no file {source}.{did_you_mean(path.name, beside)}")
    # As `python file.py` does, so that it finds what lies beside it.
    sys.path.insert(0, str(path.resolve().parent) if is_file else "")
    try:
        if not is_file:
            return importlib.import_module(source)
        name = f"st_eval_evaluators_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        raise Problem(f"{source} fails: {type(error).__name__}: {error} (--traceback shows where)") from error
