"""The contacts of the fake's executions: who they are and how each fared, the same in every process.

Pure: a contact is a function of the seed, its execution and its number in it. How many there are, and
how many of them ended how, is what the execution's own counters say.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import cast
from uuid import UUID

from hilos_async.testing._campaigns import date_time
from hilos_async.testing._chance import draws, uuid_about

_FIRST = ("María", "José", "Guadalupe", "Juan", "Ximena", "Ángel", "Íñigo", "Zoé", "Raúl", "Inés")
_LAST = ("Hernández", "García", "Peña", "Muñoz", "Ruiz", "Castañeda", "Lozano", "Ávila")
_CITIES = ("Mérida", "León", "Cancún", "Ciudad de México", "Mazatlán")
_SAID = ("Sí", "No, gracias", "Muy bien;\nvolveré", '"Perfecto"', "=1+1")
_FAILURES = ("Message undeliverable", "The number has no WhatsApp", "Template rejected")
_ORDER = 7_919  # Prime: who ended how is spread over the list.
_ENDED = ("completed", "failed", "expired", "canceled", "running")

# Six bytes that say whose contact it is, and six that are its number.
_KEY_BYTES = 6


class People:
    """Tells who the contacts of an execution are, in one of the two contracts."""

    def __init__(self, seed: int, *, native: bool) -> None:
        self._seed = seed
        self._native = native
        self._executions: dict[bytes, UUID] = {}

    def id(self, execution: UUID, number: int) -> UUID:
        """Give the id of the contact with that number in an execution."""
        digest = self._digest(execution)
        self._executions[digest[:_KEY_BYTES]] = execution
        return UUID(bytes=digest[:10] + number.to_bytes(_KEY_BYTES, "big"), version=4)

    def number(self, execution: UUID, id: UUID) -> int | None:
        """Give the number of a contact in that execution; None if it is no contact of it."""
        number = int.from_bytes(id.bytes[10:], "big")
        return number if self.id(execution, number) == id else None

    def find(self, id: UUID) -> tuple[UUID, int]:
        """Say of which execution an id is a contact, and its number.

        One that no list has shown is a contact all the same, as any id is an execution.
        """
        execution = self._executions.get(id.bytes[:_KEY_BYTES])
        if execution is None:
            return UUID(uuid_about("execution of", id)), 0
        return execution, int.from_bytes(id.bytes[10:], "big")

    def row(
        self,
        id: UUID,
        number: int,
        execution: Mapping[str, object],
        given: Mapping[str, object] | None,
    ) -> dict[str, object]:
        """Give a contact as a list shows it; `given` is what a run was ordered with."""
        status = _status(number, execution)
        flow = cast(Mapping[str, object], execution["flow"])
        version = cast(Mapping[str, object], execution["flow_version"])
        chance = draws(self._seed, "contact", id)
        reason = _FAILURES[int(chance[0] * 3)] if status == "FAILED" else None
        row: dict[str, object] = {
            "id": str(id),
            "contact": self._person(id, status, chance, given or {}),
            "status": status,
            "created_on": date_time(86_400 - number * 0.25),
            "flow_name": flow["name"],
        }
        if self._native:
            return row | {"reason": reason, "is_chatbot_execution": True}
        return row | {
            "status_reason": reason,
            "is_test": False,
            "flow": flow["id"],
            "flow_version": version["id"],
        }

    def whole(self, row: dict[str, object], execution: Mapping[str, object]) -> dict[str, object]:
        """Make of a row what is answered for its id: with the execution and its steps."""
        whole = {name: row[name] for name in ("id", "contact", "status", "created_on")}
        whole["reason" if self._native else "status_reason"] = row.get(
            "reason", row.get("status_reason")
        )
        return whole | {"flow_execution": dict(execution), "execution_steps": [self._step(row)]}

    def _digest(self, execution: UUID) -> bytes:
        return blake2b(f"{self._seed}\0people\0{execution}".encode(), digest_size=16).digest()

    def _person(
        self, id: UUID, status: str, chance: tuple[float, ...], given: Mapping[str, object]
    ) -> dict[str, object]:
        first, last = _FIRST[int(chance[1] * 10)], _LAST[int(chance[2] * 8)]
        meta: dict[str, object] = {"ciudad": _CITIES[int(chance[3] * 5)]}
        if status == "COMPLETED":
            meta |= {
                "satisfaccion": 1 + int(chance[4] * 5),
                "comentario": _SAID[int(chance[5] * 5)],
            }
        phone = f"+52155{int(chance[6] * 1e8):08}"
        person: dict[str, object] = {
            "id": uuid_about("person", self._seed, id),
            "phone": phone,
            "canonical_phone": phone.removeprefix("+"),
            "first_name": first,
            "last_name": last if chance[7] < 0.8 else None,
            "email": f"cliente{int(chance[8] * 1e6)}@correo.example" if chance[9] < 0.5 else None,
            "meta": meta,
            "external_url": None,
            "is_deleted": False,
            "created_on": date_time(-86_400 * (10 + 300 * chance[10])),
            "last_updated_on": date_time(-3_600 * chance[11]),
            "source": "website",
        }
        if given:
            person |= {name: given.get(name) for name in ("first_name", "last_name", "email")}
            person |= {name: value for name, value in given.items() if name in person}
            person["canonical_phone"] = str(given.get("phone", phone)).removeprefix("+")
            person["meta"] = given.get("meta", {})
        return person

    def _step(self, row: Mapping[str, object]) -> dict[str, object]:
        ended = row["status"]
        return {
            "id": uuid_about("step", row["id"]),
            "step": {"name": "Saludo", "step_type": "MESSAGE"},
            "last_error_detail": None,
            "has_error": ended == "FAILED",
            "expire_on": None,
            "status": {"READY": "WAITING_TO_START", "PAUSED": "NOT_EXECUTED"}.get(
                str(ended), ended
            ),
            "validation_failed_attempts": 0,
            "execution_result": None,
            "request_data": None,
            "messages": [],
            "created_on": row["created_on"],
        }


def _status(number: int, execution: Mapping[str, object]) -> str:
    counts = {name: cast(int, execution[name]) for name in ("num_contacts", *_ENDED)}
    contacts = counts["num_contacts"]
    if number >= contacts:
        return "READY"  # It came while the list was read.
    place = number * (_ORDER if contacts % _ORDER else 1) % contacts
    for name in _ENDED:
        if place < counts[name]:
            return name.upper()
        place -= counts[name]
    return "READY"
