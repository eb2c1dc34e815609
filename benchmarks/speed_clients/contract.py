"""The contract as an OpenAPI document, for generators: this project's own words for its fields.

One line for each object: field and kind. `!` after the kind says that it is required, `?` that it
may be null, which is written down where replies have it, so that generated clients can read them.
"""

from __future__ import annotations

from typing import Any

_COUNTERS = "num_contacts:int expired:int running:int completed:int canceled:int failed:int"
_OBJECTS = {
    "User": "id:int! email:str! first_name:str last_name:str profile_image:str? role:int?",
    "Channel": (
        "id:int! channel_id:str! channel_type:ChannelType name:str status:ChannelStatus "
        "created_on:date channel_provider:ChannelProvider is_sandbox:bool"
    ),
    "ContactFilter": "field:str! comparison:Comparison! value:str! id:uuid",
    "Flow": (
        "id:str! name:str! created_by:User!? channel:Channel! created_on:date is_active:bool "
        "status:FlowStatus is_legacy:bool flow_execution_variables:[str]? "
        "trigger_type:TriggerType! trigger_config:any"
    ),
    "FlowVersion": (
        "id:uuid flow:Flow! is_current_version:bool! version_name:str version_description:str? "
        "published_by:User!? created_on:date last_updated_on:date! avg_completion_time:str "
        + _COUNTERS
    ),
    "FlowExecution": (
        "status:Status! execute_for:ExecuteFor! id:uuid has_priority:bool "
        "flow_execution_variables:any start_on:date? created_on:date avg_completion_time:str "
        "status_reason:str!? status_triggered_by:User!? status_last_change_on:date!? "
        "created_by:User!? contact_filters:[ContactFilter] contact_import:uuid? flow:Flow! "
        "flow_version:FlowVersion! last_run_on:date! " + _COUNTERS
    ),
}
_WORDS = {
    "Status": "PROCESSING READY AWAITING_CONFIRMATION CONFIRMED STARTING RUNNING COMPLETED CANCELED",
    "ExecuteFor": "FILTERS LIST ALL",
    "ChannelType": "WHATSAPP EMAIL INSTAGRAM FB_MESSENGER TELEGRAM SMS VOICE",
    "ChannelStatus": "NEW ACTIVE INACTIVE",
    "ChannelProvider": "META_CLOUD_API TECH_PROVIDER_CLOUD_API D360_CLOUD_API 360DIALOG",
    "FlowStatus": "DRAFT PUBLISHED",
    "TriggerType": (
        "INBOUND_ANY_MESSAGE INBOUND_SPECIFIC_MESSAGE OUTBOUND_CAMPAIGN_API "
        "OUTBOUND_CAMPAIGN_CSV OUTBOUND_CAMPAIGN_SEGMENT OUTBOUND_ANY META_C2WA "
        "INTEGRATIONS_HUBSPOT INTEGRATIONS_ZAPIER FROM_FLOW CSAT OTHER"
    ),
    "Comparison": "exact !exact gte gt lte lt isnull !isnull icontains !icontains",
}
_PLAIN: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date-time"},
    "any": {},
}


def contract() -> dict[str, Any]:
    """The OpenAPI 3.0 document of the one operation."""
    schemas: dict[str, Any] = {
        name: {"type": "string", "enum": words.split()} for name, words in _WORDS.items()
    }
    schemas |= {name: _object(fields) for name, fields in _OBJECTS.items()}
    json_body = {"application/json": {"schema": _kind("FlowExecution")}}
    operation = {
        "operationId": "get_flow_execution",
        "parameters": [{"in": "path", "name": "id", "required": True, "schema": _kind("uuid")}],
        "responses": {"200": {"description": "the execution", "content": json_body}},
        "security": [{"key": []}],
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "Flow executions", "version": "1"},
        "paths": {"/flow-execution/{id}": {"get": operation}},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "Token"}},
        },
    }


def _object(fields: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in fields.split():
        name, _, kind = field.partition(":")
        schema = _kind(kind.rstrip("!?"))
        if "!" in kind:
            required.append(name)
        if "?" in kind:
            schema |= {"nullable": True}
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": required}


def _kind(kind: str) -> dict[str, Any]:
    if kind.startswith("["):
        return {"type": "array", "items": _kind(kind[1:-1])}
    # A reference may have nothing beside it: nullable goes around it.
    return (
        dict(_PLAIN[kind])
        if kind in _PLAIN
        else {"allOf": [{"$ref": f"#/components/schemas/{kind}"}]}
    )
