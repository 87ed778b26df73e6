"""/admin/v1/tenants: what each tenant may use. Changed by admins of the tenant `default` alone."""

import logging

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.access import Access
from gateway.access.caller import DEFAULT_TENANT, Caller
from gateway.access.changes import delete_tenant, set_tenant
from gateway.access.snapshot import described_tenant
from gateway.admission.tiers import Tier
from gateway.api import openapi
from gateway.api.auth import caller_of
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.errors import Forbidden
from gateway.log.records import Training
from gateway.serving import ChatService

logger = logging.getLogger(__name__)

router = APIRouter()

_MAX_BODY_BYTES = 262_144


class TenantLogChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it was. store: false keeps nothing of it. share: of its interactions, 0 to 1.

    prompts, media: false keeps none. redact: what is taken out of its texts; [] takes out nothing. null: what the
    configuration says. training: whose models its records may train. retain_days: how long they are kept, where the
    configuration keeps them for longer.
    """

    store: bool | UnsetType = UNSET
    share: float | UnsetType | None = UNSET
    prompts: bool | UnsetType | None = UNSET
    media: bool | UnsetType | None = UNSET
    redact: tuple[str, ...] | UnsetType | None = UNSET
    training: Training | UnsetType = UNSET
    retain_days: int | UnsetType | None = UNSET


class TenantLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/tenants/{name}. models: public names; profiles: their names. Left out or null: all.

    tier: the highest class that its requests may have, as they ask for it with `service_tier`.
    log: what is kept of its requests, of what the configuration keeps, and what that may train.
    """

    models: list[str] | None = None
    profiles: list[str] | None = None
    tier: Tier = "default"
    log: TenantLogChanges = TenantLogChanges()


@router.get(
    "/admin/v1/tenants",
    summary="List the tenants with the models and profiles (null: all) and the service tier they may use",
)
async def list_tenants(request: Request) -> Response:
    caller = caller_of(request, "admin")
    access: Access = request.app.state.access
    data = [
        described_tenant(tenant)
        for tenant in access.known.all_tenants()
        if caller.tenant in (DEFAULT_TENANT, tenant.name)
    ]
    return json_response({"object": "list", "data": data})


@router.put(
    "/admin/v1/tenants/{name}",
    summary="Make a tenant, or replace its limits",
    openapi_extra=openapi.body(TenantLimits, {"models": ["bestow-demo"], "profiles": ["default"], "tier": "default"}),
)
async def put_tenant(request: Request, name: str) -> Response:
    caller = _administrator(request)
    access: Access = request.app.state.access
    service: ChatService = request.app.state.service
    limits = convert(parse_json(await read_body(request, _MAX_BODY_BYTES)), TenantLimits)
    tenant = await access.change(
        set_tenant(
            name,
            limits.models,
            limits.profiles,
            tier=limits.tier,
            log={name: value for name, value in msgspec.structs.asdict(limits.log).items() if value is not UNSET},
            known_models=service.config.models,
            known_profiles=[profile.name for profile in service.profiles.all()],
        )
    )
    logger.info("tenant %s was set by %s: %s", name, caller.actor, described_tenant(tenant))
    return json_response(described_tenant(tenant))


@router.delete("/admin/v1/tenants/{name}", summary="Delete a tenant that has no usable API keys")
async def remove_tenant(request: Request, name: str) -> Response:
    caller = _administrator(request)
    access: Access = request.app.state.access
    tenant = await access.change(delete_tenant(name, now=access.now()))
    logger.info("tenant %s was deleted by %s", name, caller.actor)
    return json_response({**described_tenant(tenant), "deleted": True})


def _administrator(request: Request) -> Caller:
    caller = caller_of(request, "admin")
    if caller.tenant != DEFAULT_TENANT:
        raise Forbidden("tenants are managed with an admin key of the tenant default")
    return caller
