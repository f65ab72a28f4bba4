"""`python -m st_eval_callbacks`: the command line, also for `torchrun -m`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
