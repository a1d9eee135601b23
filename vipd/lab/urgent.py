"""The lab's instruments come first: they stand for machines of their own.

The client and the hosts' echo share the processors with the daemons that they judge. What they
wait for a processor would be counted as the daemon's, more of it the busier the machine is.
"""

from __future__ import annotations

import os
from contextlib import suppress

_PRIORITY = 50


def hurry() -> None:
    """The calling thread wakes before ordinary ones, as far as we may say so."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
