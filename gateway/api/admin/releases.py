"""/admin/v1/releases: who serves, what is being tried, what can be rolled back to; and what operators do about it."""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.admin.operators import MAX_BODY_BYTES, Reason, made_by, operator, read_reason
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.config import Config
from gateway.control.control import Control
from gateway.control.state import known_scorers
from gateway.errors import ModelNotFound
from gateway.release import moves
from gateway.release.checks import check_bundle
from gateway.release.controller import ReleaseController
from gateway.release.overview import described, described_note
from gateway.release.state import Bundle, Decide
from gateway.serving import ChatService
from gateway.shared.note import Note

router = APIRouter()

RELEASES = "/admin/v1/releases"


class BundleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shall be served together. release: its number in the registry; 0: none.

    policy: name@N; none: as the configuration says. served_as: name-vN. path: of the LoRA adapter, where the workers
    read it (absolute, or a Hugging Face id); none: full weights, which workers serve under that name. reward: the
    scorer that ranks in place of the profile's; scorer: its settings, where it is not there yet. settings: laid over
    the profile.
    """

    release: int = 0
    policy: str = ""
    served_as: str | None = None
    path: str | None = None
    reward: str | None = None
    scorer: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    digest: str = ""


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/releases/{model}. reason: why, for whoever reads the history later."""

    bundle: BundleBody
    reason: str | None = None


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, where there is one. force: promote it though it is not shown yet that it is as good."""

    force: bool = False
    reason: str | None = None


class Veto(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, where there is one. release: which; none: what is on its way, or else the champion."""

    release: int | None = None
    reason: str | None = None


_EXAMPLE = {
    "bundle": {
        "release": 3,
        "policy": "demo-policy@2",
        "served_as": "demo-policy-v2",
        "path": "/registry/policies/demo-policy@2",
    },
    "reason": "trained on June's thumbs",
}


def _optional(kind: type[msgspec.Struct], example: dict[str, Any]) -> dict[str, Any]:
    body = openapi.body(kind, example)
    body["requestBody"]["required"] = False
    return body


_REASON = _optional(Reason, {"reason": "the on-call wants to look first"})


@router.get(RELEASES, summary="List the models: who serves each, what is being tried on it, and the moves")
async def list_releases(request: Request) -> Response:
    operator(request)
    controller: ReleaseController = request.app.state.controller
    service: ChatService = request.app.state.service
    return json_response(
        {
            "object": "list",
            "safe_mode": described_note(controller.releases.state.safe_mode),
            "leads": controller.leads,
            "data": [await _described(request, model) for model in service.config.models],
        }
    )


@router.get(RELEASES + "/{model}", summary="One of them: stage, users, each signal with its limit, and what is missing")
async def get_release(request: Request, model: str) -> Response:
    operator(request)
    return json_response(await _described(request, model))


@router.post(
    RELEASES + "/{model}",
    status_code=202,
    summary="Submit a release: it is loaded everywhere, tried on few users, then on more",
    description="One at a time. It is brought to all workers before anybody gets it, its reward model scores beside "
    "the old one first, and each stage ends by what users did. Harm takes it back within seconds.",
    openapi_extra=openapi.body(Submission, _EXAMPLE),
)
async def submit(request: Request, model: str) -> Response:
    caller = operator(request)
    controller: ReleaseController = request.app.state.controller
    control: Control = request.app.state.control
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), Submission)
    config = _config(request)
    _must_be(request, model)
    bundle = msgspec.convert(msgspec.to_builtins(body.bundle), Bundle)
    served = config.models[model]
    check_bundle(
        bundle,
        served.policy,
        config.policies[served.policy].version,
        control.profiles.get(served.profile).settings,
        known_scorers(control.state, config.scorers),
        config.scorers,
    )
    made = made_by(caller, controller.releases.now(), body.reason)
    await controller.move(moves.submit(model, bundle, salt=secrets.token_hex(8), made=made))
    return json_response(await _described(request, model), 202)


@router.post(
    RELEASES + "/{model}/promote",
    summary="Promote the challenger, once it is shown to be as good; or say that you want it promoted",
    description="Where `release.two_person` is on this approves it: it is promoted when two operators have, and when "
    "it is shown that it is as good. `force` promotes it without that being shown.",
    openapi_extra=_optional(Promotion, {"reason": "it is better on the support questions"}),
)
async def promote(request: Request, model: str) -> Response:
    caller = operator(request)
    controller: ReleaseController = request.app.state.controller
    raw = await read_body(request, MAX_BODY_BYTES)
    body = convert(parse_json(raw), Promotion) if raw.strip() else Promotion()
    _must_be(request, model)
    made = made_by(caller, controller.releases.now(), body.reason)
    await controller.promote(model, body.force, made)
    return json_response(await _described(request, model))


@router.post(
    RELEASES + "/{model}/rollback",
    summary="Take back the challenger, or else the champion: policy, reward model and settings together",
    openapi_extra=_REASON,
)
async def roll_back(request: Request, model: str) -> Response:
    return await _decided(request, model, lambda made: moves.roll_back(model, made))


@router.post(
    RELEASES + "/{model}/veto",
    summary="Take it back, and never try it again",
    openapi_extra=_optional(Veto, {"release": 3, "reason": "it praises whatever it is asked about"}),
)
async def veto(request: Request, model: str) -> Response:
    caller = operator(request)
    controller: ReleaseController = request.app.state.controller
    raw = await read_body(request, MAX_BODY_BYTES)
    body = convert(parse_json(raw), Veto) if raw.strip() else Veto()
    _must_be(request, model)
    await controller.move(moves.veto(model, body.release, made_by(caller, controller.releases.now(), body.reason)))
    return json_response(await _described(request, model))


@router.post(
    RELEASES + "/{model}/hold",
    summary="Keep the challenger at its stage; harm still takes it back",
    openapi_extra=_REASON,
)
async def hold(request: Request, model: str) -> Response:
    return await _decided(request, model, lambda made: moves.hold(model, made))


@router.post(RELEASES + "/{model}/resume", summary="Let it go on", openapi_extra=_REASON)
async def resume(request: Request, model: str) -> Response:
    return await _decided(request, model, lambda made: moves.resume(model, made))


@router.post(
    "/admin/v1/safe-mode",
    summary="Safe mode on: the configuration's own policies and profiles for everybody, nothing explored or trained on",
    openapi_extra=_REASON,
)
async def safe_mode_on(request: Request) -> Response:
    caller = operator(request)
    reason = await read_reason(request)
    controller: ReleaseController = request.app.state.controller
    made = made_by(caller, controller.releases.now(), reason)
    await controller.move(moves.safe_mode_on(_config(request).models, made))
    return json_response(_safe_mode(controller))


@router.delete("/admin/v1/safe-mode", summary="Safe mode off: releases go on where they were")
async def safe_mode_off(request: Request) -> Response:
    caller = operator(request)
    controller: ReleaseController = request.app.state.controller
    made = made_by(caller, controller.releases.now(), request.query_params.get("reason"))
    await controller.move(moves.safe_mode_off(_config(request).models, made))
    return json_response(_safe_mode(controller))


async def _decided(request: Request, model: str, decide: Callable[[Note], Decide]) -> Response:
    """An operator's move that takes nothing but a reason."""
    caller = operator(request)
    reason = await read_reason(request)
    controller: ReleaseController = request.app.state.controller
    _must_be(request, model)
    await controller.move(decide(made_by(caller, controller.releases.now(), reason)))
    return json_response(await _described(request, model))


async def _described(request: Request, model: str) -> dict[str, Any]:
    controller: ReleaseController = request.app.state.controller
    config = _config(request)
    _must_be(request, model)
    state = controller.releases.state
    one = state.of(model)
    known = await controller.known(model, one.canary) if one.canary else None
    return described(model, config.models[model].policy, one, state.safe_mode, config.release, known)


def _safe_mode(controller: ReleaseController) -> dict[str, Any]:
    made = controller.releases.state.safe_mode
    return {"object": "safe_mode", "on": made is not None, "changed": described_note(made)}


def _config(request: Request) -> Config:
    service: ChatService = request.app.state.service
    return service.config


def _must_be(request: Request, model: str) -> None:
    """Raises ModelNotFound."""
    models = _config(request).models
    if model not in models:
        raise ModelNotFound(f"The model {model!r} does not exist. Available: {', '.join(models) or 'none'}.")
