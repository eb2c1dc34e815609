"""The account behind the fake: its users, channels and flows, which many executions share.

Pure and made once for each seed and contract. It knows what stands still about a campaign; what
happens to one run of it is `_stories`'.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from hilos_async.testing._chance import draws, uuid_about

CAMPAIGNS = 40

# The API often writes -06:00, where the first ten characters of a date-time are another day's.
ZONE = timezone(timedelta(hours=-6))
EPOCH = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)

_PEOPLE = (
    ("Ana", "Núñez"),
    ("Luis", "Ortega"),
    ("Sofía", "Peña"),
    ("Diego", "Ibáñez"),
    ("Valeria", "Soto"),
    ("Tomás", "Quiroga"),
    ("Lucía", "Márquez"),
    ("Emilio", "Duarte"),
    ("Renata", "Güemes"),
    ("Iván", "Salas"),
)
_ROLES = ("AGENT", "MANAGER", "ADMIN", "FINANCE")
_CHANNELS = (
    ("WHATSAPP", "Ventas MX", "META_CLOUD_API"),
    ("WHATSAPP", "Soporte", "D360_CLOUD_API"),
    ("WHATSAPP", "Cobranza", "TECH_PROVIDER_CLOUD_API"),
    ("INSTAGRAM", "Marca", "META_CLOUD_API"),
)
_SUBJECTS = (
    "Recordatorio de cita",
    "Carrito abandonado",
    "Encuesta de satisfacción",
    "Confirmación de envío",
    "Bienvenida",
    "Renovación de póliza",
    "Año nuevo: promoción",
    "Pago próximo a vencer",
)
_SEASONS = ("norte", "sur", "clientes nuevos", "recompra", "prueba A/B")
_TRIGGERS = (
    "OUTBOUND_CAMPAIGN_API",
    "OUTBOUND_CAMPAIGN_CSV",
    "OUTBOUND_CAMPAIGN_SEGMENT",
    "OUTBOUND_ANY",
    "INTEGRATIONS_HUBSPOT",
)
VARIABLES = ("nombre", "fecha", "sucursal", "monto", "enlace")


@dataclass(frozen=True, slots=True)
class Campaign:
    """A flow and its current version, as documents that executions contain."""

    flow: dict[str, object]
    flow_version: dict[str, object]


def date_time(seconds: float) -> str:
    """Write the moment `seconds` after the fake's epoch as the API writes date-times."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def duration(seconds: float) -> str:
    """Write a duration as Django does: `[D ]HH:MM:SS[.uuuuuu]`."""
    whole = timedelta(seconds=seconds)
    hours, rest = divmod(whole.seconds, 3600)
    text = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
    if whole.microseconds:
        text = f"{text}.{whole.microseconds:06}"
    return f"{whole.days} {text}" if whole.days else text


def users(*, native: bool) -> list[dict[str, object]]:
    """Make the users of the account; the two contracts write a role differently."""
    made: list[dict[str, object]] = []
    for number, (first, last) in enumerate(_PEOPLE):
        chance = draws("user", number)
        image = f"https://images.example/{number}.png" if chance[0] < 0.6 else None
        role: object = _ROLES[int(chance[1] * 4)]
        if not native:
            role = None if chance[2] < 0.1 else 1 + int(chance[1] * 4)
        made.append(
            {
                "first_name": first,
                "last_name": last,
                "email": f"persona{number}@empresa.example",
                "id": 1_204 + 37 * number,
                "profile_image": image,
                "role": role,
            }
        )
    return made


def campaigns(seed: int, people: list[dict[str, object]], *, native: bool) -> list[Campaign]:
    """Make the campaigns that the executions of one fake are runs of."""
    channels = [_channel(number) for number in range(len(_CHANNELS))]
    return [
        _campaign(draws(seed, "campaign", number), number, people, channels, native=native)
        for number in range(CAMPAIGNS)
    ]


def _channel(number: int) -> dict[str, object]:
    kind, name, provider = _CHANNELS[number]
    chance = draws("channel", number)
    return {
        "id": 310 + number,
        "channel_type": kind,
        "name": name,
        "channel_id": f"52155{int(chance[0] * 1e8):08}",
        "status": "INACTIVE" if chance[1] < 0.1 else "ACTIVE",
        "created_on": date_time(-86_400 * (400 + 300 * chance[2])),
        "channel_provider": provider,
        "is_sandbox": chance[3] < 0.1,
    }


def _campaign(
    chance: tuple[float, ...],
    number: int,
    people: list[dict[str, object]],
    channels: list[dict[str, object]],
    *,
    native: bool,
) -> Campaign:
    age = 86_400 * (30 + 300 * chance[0])
    # A user who left the account is null in what they once made.
    author = None if chance[1] < 0.05 else people[int(chance[2] * len(people))]
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    flow: dict[str, object] = {
        "id": uuid_about("flow", number, *chance[:2]),
        "name": f"{subject} ({_SEASONS[int(chance[3] * len(_SEASONS))]})",
        "created_by": author,
        "created_on": date_time(-age),
        "is_active": chance[4] < 0.9,
        "status": "PUBLISHED",
        "is_legacy": chance[5] < 0.1,
        "channel": channels[int(chance[6] ** 2 * len(channels))],
        "flow_execution_variables": list(VARIABLES[: int(chance[7] * 6)]) or None,
    }
    if not native:
        trigger = _TRIGGERS[int(chance[8] * len(_TRIGGERS))]
        flow["trigger_type"] = trigger
        flow["trigger_config"] = {"source": trigger.lower()} if chance[9] < 0.5 else {}
    contacts = int(200 * 1_000 ** chance[10])
    failed, expired, canceled = (int(contacts * chance[i] / 12) for i in (11, 12, 13))
    running = int(contacts * chance[14] / 8)
    version: dict[str, object] = {
        "id": uuid_about("flow version", number, *chance[:2]),
        "flow": flow,
        "is_current_version": chance[15] < 0.8,
        "version_name": f"v{1 + number % 7}",
        "version_description": None if number % 3 else f"Textos revisados: {subject}",
        "published_by": author,
        "created_on": date_time(-age + 3_600.5),
        "last_updated_on": date_time(-age * chance[15]),
        "num_contacts": contacts,
        "completed": contacts - failed - expired - canceled - running,
        "expired": expired,
        "running": running,
        "canceled": canceled,
        "failed": failed,
        "avg_completion_time": duration(60 * 900 ** chance[14]),
    }
    if native:
        version["execution_type"] = "OUTBOUND"
    return Campaign(flow, version)
