"""A Hilos API to test against: a real server on loopback, with limits and faults to order.

It needs aiohttp and nothing else of this library, so that it can disagree with it. It knows one
endpoint, `GET flow-execution/{id}`, in both contracts, and refuses to listen anywhere but on
loopback: it is made for tests and demonstrations.
"""

from hilos_async.testing._faults import Fault
from hilos_async.testing._limits import FakeLimit, FakeLimiter
from hilos_async.testing._server import FakeHilos

__all__ = ["FakeHilos", "FakeLimit", "FakeLimiter", "Fault"]
