"""/admin/v1/scorers: the scorers of the file, and those that are added and removed while everything runs."""

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.admin.operators import MAX_BODY_BYTES, described_note, made_by, operator
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.control.control import Control
from gateway.control.overview import overview
from gateway.control.shadow import ShadowScoring
from gateway.errors import NotFound, Unavailable
from gateway.release.preparing import must_not_serve
from gateway.release.routes import Releases
from gateway.serving import ChatService
from scorers.client import ScorerClient
from scorers.contract import ScorerList
from scorers.errors import ScorerError

router = APIRouter()


class PutScorer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/scorers/{name}.

    settings: as in the file below the scorer's name, without an address and without secrets; paths are absolute and on
    the scorer server's machine. A `version` need not be given: it is the next. reason: why, for the list.
    """

    settings: dict[str, Any]
    reason: str | None = None


@router.get("/admin/v1/scorers", summary="List the scorers: state, version, who uses them, how far they agree")
async def list_scorers(request: Request) -> Response:
    operator(request)
    return json_response({"object": "list", "data": await _all(request)})


@router.get("/admin/v1/scorers/{name}", summary="One of them")
async def get_scorer(request: Request, name: str) -> Response:
    operator(request)
    return json_response(await _one(request, name))


@router.put(
    "/admin/v1/scorers/{name}",
    summary="Add a scorer, or a new version of one, while everything runs",
    description="It is loaded by the scorer server beside those that answer; a new version takes the place of the old "
    "once it is loaded. The answer comes when it is, or after half a minute as a 202 while it goes on loading. One "
    "that cannot be loaded is a 400 with the reason, and changes nothing. It is in use once a profile names it.",
    openapi_extra=openapi.body(
        PutScorer, {"settings": {"kind": "reward", "model": "/models/reward-2"}, "reason": "trained on June's votes"}
    ),
)
async def put_scorer(request: Request, name: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), PutScorer)
    live = await control.put_scorer(name, body.settings, made_by(caller, control.now(), body.reason))
    return json_response(await _one(request, name), 200 if live.proven else 202)


@router.delete("/admin/v1/scorers/{name}", summary="Remove a scorer that was added and that no profile names")
async def remove_scorer(request: Request, name: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    releases: Releases = request.app.state.releases
    must_not_serve(releases.state, f"the scorer {name}", reward=name)
    await control.remove_scorer(name, made_by(caller, control.now(), request.query_params.get("reason")))
    return json_response({"object": "scorer", "name": name, "deleted": True})


async def _one(request: Request, name: str) -> dict[str, Any]:
    found = {one["name"]: one for one in await _all(request)}
    if name not in found:
        raise NotFound(f"there is no scorer {name!r} (there is {', '.join(sorted(found))})", code="scorer_not_found")
    return found[name]


async def _all(request: Request) -> list[dict[str, Any]]:
    """As their servers and Redis tell it now."""
    control: Control = request.app.state.control
    service: ChatService = request.app.state.service
    shadow: ShadowScoring = request.app.state.shadow
    seeds = service.config.scorers
    clients = {name: control.scorers[name].client for name in seeds}
    asked = {client.url: client for client in (*clients.values(), control.server) if client is not None}
    listed = dict(zip(asked, await asyncio.gather(*map(_listed, asked.values())), strict=True))
    try:
        sums = await shadow.sums({*seeds, *control.state.scorers})
    except Unavailable:
        sums = None
    addresses = {name: client.url for name, client in clients.items()}
    home = control.server.url if control.server else None
    found = overview(seeds, addresses, home, control.state, listed, sums)
    return [one | {"changed": described_note(one["changed"]) if one["changed"] else None} for one in found]


async def _listed(client: ScorerClient) -> ScorerList | None:
    try:
        return await client.listed()
    except ScorerError:
        return None
