"""MachinePacer: one limit for all processes of a machine, without a server.

A face: the pacer stands in ``_pace/machine.py``. Linux and macOS.
"""

from hilos_async._pace.machine import MachinePacer

__all__ = ["MachinePacer"]
