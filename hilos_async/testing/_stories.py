"""The executions of the fake: for any UUID one story, the same in every process.

Pure: a story is a function of seed, id and the seconds since the fake started. Standing still is
the same story, looked at in one moment for good. It knows nothing of requests, orders or clocks.
"""

from bisect import bisect_right
from uuid import UUID

from hilos_async.testing._campaigns import (
    VARIABLES,
    Campaign,
    campaigns,
    date_time,
    duration,
    users,
)
from hilos_async.testing._chance import draws, uuid_about

_STAGES = ("PROCESSING", "READY", "AWAITING_CONFIRMATION", "CONFIRMED", "STARTING", "RUNNING")
# How long each stage lasts, in shares of the whole before every id stretches them its own way.
_LASTING = (2.0, 1.5, 2.0, 1.0, 1.0, 8.0)
_RUNNING = _STAGES.index("RUNNING")
_STARTING = _STAGES.index("STARTING")
_CONFIRMED = _STAGES.index("CONFIRMED")

# What an account's list of campaigns looks like on an ordinary day, summed up to 1.
_STANDING = (
    ("COMPLETED", 0.64),
    ("RUNNING", 0.78),
    ("CANCELED", 0.86),
    ("READY", 0.90),
    ("AWAITING_CONFIRMATION", 0.94),
    ("PROCESSING", 0.97),
    ("CONFIRMED", 0.985),
    ("STARTING", 1.0),
)
_CANCELED_SHARE = 0.08
_REASONS = ("Canceled by a user", "Template paused by the provider", "Channel disconnected")


class Stories:
    """Tells what every execution looks like, in one of the two contracts."""

    def __init__(self, seed: int, *, lifetime: float | None, native: bool) -> None:
        self._seed = seed
        self._lifetime = lifetime
        self._native = native
        self._people = users(native=native)
        self._campaigns = campaigns(seed, self._people, native=native)
        self.flows = {UUID(str(made.flow["id"])): made for made in self._campaigns}
        self.fields = frozenset(self.document(UUID(int=0), 0.0))

    def document(
        self,
        id: UUID,
        elapsed: float,
        status: str | None = None,
        *,
        flow: UUID | None = None,
        contacts: int | None = None,
    ) -> dict[str, object]:
        """Give the execution `elapsed` seconds after the start, or, if `status` is given, in it.

        `flow` and `contacts` are those of a run that somebody has ordered. The documents within it
        are shared with those of other executions: not to be changed.
        """
        chance = draws(self._seed, "execution", id)
        begins = self._begins(chance)
        if status is None and self._lifetime is None:
            status = next(word for word, up_to in _STANDING if chance[0] < up_to)
        if status is None:
            stage = max(0, bisect_right(begins, elapsed) - 1)
            status = _STAGES[stage] if stage < len(_STAGES) else _ending(chance)
            moment = elapsed
        else:
            stage, moment = _moment_in(status, begins, chance)
        campaign = self._campaigns[int(chance[8] * len(self._campaigns))]
        if flow is not None:
            campaign = self.flows[flow]
        if contacts is None:
            contacts = int(20 * 2_500 ** draws("counters", id)[0])
        return self._written(id, chance, begins, stage, moment, status, campaign, contacts)

    def _begins(self, chance: tuple[float, ...]) -> list[float]:
        """Give when each stage begins and, last, when the execution ends: its own pace."""
        if self._lifetime is None:
            whole = 3_600 * (0.5 + 40 * chance[1])
        else:
            whole = self._lifetime * (0.4 + 0.6 * chance[1])
        lasting = [
            usual * (0.4 + 1.2 * own) for usual, own in zip(_LASTING, chance[2:8], strict=True)
        ]
        scale = whole / sum(lasting)
        begins = [0.0]
        for length in lasting[:-1]:
            begins.append(begins[-1] + length * scale)
        return [*begins, whole]

    def _written(
        self,
        id: UUID,
        chance: tuple[float, ...],
        begins: list[float],
        stage: int,
        moment: float,
        status: str,
        campaign: Campaign,
        contacts: int,
    ) -> dict[str, object]:
        author = self._people[int(chance[9] * len(self._people))]
        # Runs that stand still are spread over the months before the epoch; those that move were
        # all ordered in the hour before it.
        start = 0.0 if self._lifetime is not None else -86_400 * (3 + 180 * chance[10])
        created = start - 60 - 3_000 * chance[11]
        chosen = ("ALL", "LIST", "FILTERS")[int(chance[12] * 3)]
        canceled = status == "CANCELED" or (status != "COMPLETED" and _ending(chance) == "CANCELED")
        done = (moment - begins[_RUNNING]) / (begins[-1] - begins[_RUNNING])
        filters = [
            {
                "field": "meta__ciudad",
                "comparison": "icontains",
                "value": "Mérida",
                "id": uuid_about("filter", id),
            },
            {"field": "tags__name", "comparison": "!exact", "value": "baja"},
        ]
        document: dict[str, object] = {
            "status": status,
            "execute_for": chosen,
            "id": str(id),
            "has_priority": chance[13] < 0.1,
            "flow_execution_variables": {
                name: f"{{{{contact.{name}}}}}" for name in VARIABLES[: int(chance[14] * 5)]
            },
            "start_on": date_time(created + 1_800) if chance[13] > 0.7 else None,
            **_counters(id, contacts, status, done, reach=chance[14] if canceled else 1.0),
            "created_on": date_time(created),
            "created_by": author,
            "contact_filters": filters if chosen == "FILTERS" else [],
            "contact_import": uuid_about("import", id) if chosen == "LIST" else None,
            "flow": campaign.flow,
            "flow_version": campaign.flow_version,
            "last_run_on": date_time(start + begins[_STARTING]) if stage >= _STARTING else None,
        }
        if self._native:
            document |= {
                "execution_type": "OUTBOUND" if chance[15] < 0.7 else "API",
                "inbound_trigger_with": "ANY_MESSAGE",
                "inbound_start_message": None if chance[15] < 0.9 else "Hola",
                "inbound_start_message_match_exact": False,
            }
            return document
        by_hand = status == "CANCELED" or stage == _CONFIRMED
        document |= {
            "status_reason": _REASONS[int(chance[15] * 3)] if status == "CANCELED" else None,
            "status_triggered_by": author if by_hand else None,
            "status_last_change_on": date_time(start + begins[stage]) if stage else None,
        }
        return document


def _ending(chance: tuple[float, ...]) -> str:
    return "CANCELED" if chance[0] < _CANCELED_SHARE else "COMPLETED"


def _moment_in(status: str, begins: list[float], chance: tuple[float, ...]) -> tuple[int, float]:
    """Give a moment at which the execution can be in `status`, and the stage it then is in."""
    if status in ("COMPLETED", "CANCELED"):
        return len(_STAGES), begins[-1]
    # A word that is no stage (PAUSED, or one of the future) interrupts the running.
    stage = _STAGES.index(status) if status in _STAGES else _RUNNING
    begin, end = begins[stage], begins[stage + 1]
    return stage, begin + (end - begin) * chance[15]


def _counters(
    id: UUID, contacts: int, status: str, done: float, *, reach: float
) -> dict[str, object]:
    """Give the counters of a run, `done` from 0 to 1, that gets to `reach` of its contacts."""
    done = min(1.0, max(0.0, done))  # Outside: not begun yet, ended long ago.
    chance = draws("counters", id)
    # Each counter grows towards its own total, so that none ever falls while the run goes on.
    totals = {
        "failed": int(contacts * 0.04 * chance[1]),
        "expired": int(contacts * 0.25 * chance[2]),
    }
    totals["completed"] = contacts - sum(totals.values())
    counters = {name: int(total * done * reach) for name, total in totals.items()}
    rest = contacts - sum(counters.values())
    return {
        "num_contacts": contacts,
        **counters,
        "running": int(rest * 0.6 * chance[3]) if status == "RUNNING" else 0,
        "canceled": rest if status == "CANCELED" else 0,
        "avg_completion_time": duration(30 * 8_000 ** chance[4] if counters["completed"] else 0),
    }
