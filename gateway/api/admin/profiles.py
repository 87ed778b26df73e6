"""/admin/v1/profiles: the profiles in force on every gateway, their history, and changes of them."""

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
from gateway.control.profile_changes import changes_between, no_profile, whole
from gateway.control.state import LiveProfile, ProfileVersion
from gateway.serving import ChatService

router = APIRouter()


class SetProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/profiles/{name}.

    version: the one that the change was made from; 0 for a profile that is not there yet. settings: all of them, as in
    the file; what is left out is the default. reason: why, for whoever reads the history later.
    """

    version: int
    settings: dict[str, Any]
    reason: str | None = None


class RevertProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/profiles/{name}/revert. to: which version; none: the one before that in force.

    version: the one in force, where only that one shall be reverted.
    """

    to: int | None = None
    version: int | None = None
    reason: str | None = None


_EXAMPLE = {"version": 3, "settings": {"n": 4, "shadow": ["reward-2"]}, "reason": "cheaper; try the new reward model"}
_REVERSION = openapi.body(RevertProfile, {"reason": "the new reward model likes lists"})
_REVERSION["requestBody"]["required"] = False


@router.get("/admin/v1/profiles", summary="List the profiles in force")
async def list_profiles(request: Request) -> Response:
    operator(request)
    control: Control = request.app.state.control
    names = [profile.name for profile in control.profiles.all()]
    return json_response({"object": "list", "data": [_described(request, name) for name in names]})


@router.get("/admin/v1/profiles/{name}", summary="One of them, with all its settings")
async def get_profile(request: Request, name: str) -> Response:
    operator(request)
    return json_response(_described(request, name))


@router.put(
    "/admin/v1/profiles/{name}",
    summary="Replace a profile's settings; on every gateway within about a second",
    description="It is checked against the profile's bounds and the scorers that are there. `version` is the version "
    "that the change was made from: where somebody else was quicker, the answer is a 409 that names the one in force.",
    openapi_extra=openapi.body(SetProfile, _EXAMPLE),
)
async def put_profile(request: Request, name: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), SetProfile)
    made = made_by(caller, control.now(), body.reason)
    await control.set_profile(name, body.settings, body.version, made)
    return json_response(_described(request, name))


@router.get("/admin/v1/profiles/{name}/history", summary="Its versions, newest first, with what each changed")
async def get_history(request: Request, name: str) -> Response:
    operator(request)
    control: Control = request.app.state.control
    versions = control.profile(name).versions
    before = [None, *versions[:-1]]
    data = [_version(name, one, earlier) for one, earlier in zip(versions, before, strict=True)]
    return json_response({"object": "list", "data": data[::-1]})


@router.post(
    "/admin/v1/profiles/{name}/revert",
    summary="Go back to an earlier version's settings, as a new version",
    openapi_extra=_REVERSION,
)
async def revert(request: Request, name: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    raw = await read_body(request, MAX_BODY_BYTES)
    body = convert(parse_json(raw), RevertProfile) if raw.strip() else RevertProfile()
    await control.revert_profile(name, body.to, body.version, made_by(caller, control.now(), body.reason))
    return json_response(_described(request, name))


def _described(request: Request, name: str) -> dict[str, Any]:
    """The profile as this gateway serves with it. Raises NotFound."""
    control: Control = request.app.state.control
    service: ChatService = request.app.state.service
    held = {profile.name: profile for profile in control.profiles.all()}
    if name not in held:
        raise no_profile(name, held)
    profile, live = held[name], control.state.profiles.get(name)
    return {
        "object": "profile",
        "name": name,
        "version": profile.number,
        "settings": profile.settings.model_dump(mode="json"),
        "changed": _changed(live, profile.number),
        "models": [model for model, one in service.config.models.items() if one.profile == name],
    }


def _changed(live: LiveProfile | None, number: int) -> dict[str, Any] | None:
    """Who made that version; None where only the file is known."""
    made = next((one.note for one in live.versions if one.number == number), None) if live else None
    return described_note(made) if made else None


def _version(name: str, one: ProfileVersion, before: ProfileVersion | None) -> dict[str, Any]:
    return {
        "object": "profile_version",
        "profile": name,
        "version": one.number,
        "settings": whole(one.settings),
        "changed": described_note(one.note),
        "changes": changes_between(before.settings, one.settings) if before else {},
    }
