"""The only room that knows there are several processes."""

from .exchange import exchange, from_main, gather, numbers, pause, shares
from .launched import launched
from .meeting import TRAFFIC, OtherProcessError, OtherProcessInterrupt, Traffic, guarded
from .processes import is_main_process, is_sharded, num_processes, process_index, warn_if_apart
from .served import served

__all__ = [
    "TRAFFIC",
    "OtherProcessError",
    "OtherProcessInterrupt",
    "Traffic",
    "exchange",
    "from_main",
    "gather",
    "guarded",
    "is_main_process",
    "is_sharded",
    "launched",
    "num_processes",
    "numbers",
    "pause",
    "process_index",
    "served",
    "shares",
    "warn_if_apart",
]
