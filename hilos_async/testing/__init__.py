"""A Hilos API to test against: a real server on loopback, with limits and faults to order.

It needs aiohttp and nothing else of this library, so that it can disagree with it. It knows the
flow endpoints (executions, their contacts, runs) in both contracts, and refuses to listen but on
loopback: it is made for tests and demonstrations.
"""

from hilos_async.testing._faults import Fault
from hilos_async.testing._limits import FakeLimit, FakeLimiter
from hilos_async.testing._server import FakeHilos

__all__ = ["FakeHilos", "FakeLimit", "FakeLimiter", "Fault"]
