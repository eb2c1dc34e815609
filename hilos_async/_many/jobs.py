"""What the operations of a session are made of: a batch, its fan-out, a list, each over a client."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeVar

from hilos_async import _checks
from hilos_async._api.endpoints import query
from hilos_async._many.batch import ContactBatch, ExecutionBatch, Gathering
from hilos_async._many.fanout import FanOut
from hilos_async._many.pages import Listing
from hilos_async._many.source import Source
from hilos_async._wire.call import SINGLE, Caller, Sending
from hilos_async.errors import AuthenticationError, HilosError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from hilos_async._api.endpoints import Endpoint
    from hilos_async._api.lists import Page, PageDocument, R
    from hilos_async._many.batch import Progress
    from hilos_async._many.fanout import Sink
    from hilos_async._many.lookups import Freshness, Lookups
    from hilos_async._many.source import Ids
    from hilos_async._wire.client import Client

T = TypeVar("T")
B = TypeVar("B", ExecutionBatch, ContactBatch)


async def gather(
    client: Client,
    lookups: Lookups[T],
    ids: Ids,
    workers: int,
    timeout: float | None,
    on_progress: Callable[[Progress], object] | None,
    fresh: Freshness | None,
    batch: Callable[[dict[UUID, T], dict[UUID | str, HilosError]], B],
) -> B:
    """Look up all ids; a refused key is raised with what had been fetched as its batch."""
    _checks.callback("on_progress", on_progress)
    source = Source(ids)
    gathering = Gathering[T](source.count, client.clock, on_progress)
    fan_out = fan_out_over(client, lookups, source, gathering, timeout, fresh)
    operation = lookups.reader.endpoint.operation.replace("get_", "gather_") + "s"
    try:
        with client.told_batch(operation, fan_out):
            await fan_out.run(workers)
    except AuthenticationError as error:
        error.batch = batch(*gathering.outcomes(is_whole=False))
        raise
    return batch(*gathering.outcomes(is_whole=True))


def fan_out_over(
    client: Client,
    lookups: Lookups[T],
    source: Source,
    sink: Sink[T],
    timeout: float | None,
    fresh: Freshness | None = None,
) -> FanOut[T]:
    """Workers over a source of ids, whose lookups end together after ``timeout`` seconds."""
    bound = _checks.seconds("timeout", timeout)
    deadline = math.inf if bound is None else client.clock() + bound
    caller = Caller(is_batch=True, deadline=deadline, timeout=timeout)
    return FanOut(
        source,
        lookups.asker(caller, client.bounds.timeout, fresh),
        sink,
        caller,
        clock=client.clock,
        path=lookups.path,
        stop=functools.partial(client.gate.stop, caller),
    )


def list_of(
    client: Client, endpoint: Endpoint[PageDocument[R]], filters: Mapping[str, object]
) -> Listing[R]:
    """A list whose pages are asked for by number, at the base URL; its filters are checked here.

    One page after another goes with the single lookups in the queue, pages ahead with the batches.
    """
    checked = {name: _filter(name, value) for name, value in filters.items() if value is not None}
    ambiguous = endpoint.native_names.keys() & checked.keys()
    if ambiguous and client.deployment is None:
        raise ValueError(
            f"{' and '.join(sorted(ambiguous))} have other names on each deployment, and "
            f"{client.transport.base_url} does not tell which one it leads to: say "
            "HilosSession(deployment='activecampaign') or 'native'"
        )
    reader = client.reader(endpoint)
    given = query(endpoint, checked, is_native=client.deployment == "native")

    async def ask(caller: Caller, number: int) -> Page[R]:
        sending = Sending(query={**given, "page": str(number)})
        try:
            document = await client.ask(
                reader, endpoint.name, caller=caller, timeout=client.bounds.timeout, sending=sending
            )
        except HilosError as error:
            error.add_note(f"It was page {number} that was asked for.")
            raise
        return document.page(number)

    many = Caller(is_batch=True)
    return Listing(functools.partial(ask, SINGLE), functools.partial(ask, many))


def _filter(name: str, value: object) -> object:
    """The value of a filter, checked; most are ids."""
    match name:
        case "page_size":
            return _checks.whole(name, value)
        case "is_active" | "search":
            _checks.instance(name, value, bool if name == "is_active" else str)
            return value
        case _:
            noun = "execution" if name == "flow_execution" else name.replace("_", " ")
            return _checks.parse_id(value, noun)
