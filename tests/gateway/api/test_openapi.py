"""The OpenAPI page: it holds every route, it is valid, and what it says of answers is what they are."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from gateway.api.operations import OPERATIONS
from gateway.app import create_app
from gateway.errors import ApiError
from gateway.ids import new_completion_id
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, config_for, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

Json = dict[str, Any]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    nowhere = "http://127.0.0.1:9"
    return create_app(
        config_for(FakeWorker(url=nowhere), FakeScorers(url=nowhere), tmp_path_factory.mktemp("openapi"), {})
    )


@pytest.fixture(scope="module")
def document(app: FastAPI) -> Json:
    return app.openapi()


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_on_the_page_and_nothing_else(app: FastAPI, document: Json) -> None:
    routes = {
        (method, re.sub(r":path}", "}", route.path))
        for route in app.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods
    }
    assert routes == set(OPERATIONS) == {(method, path) for method, path, _ in operations(document)}


def test_the_document_is_valid_and_whole(document: Json) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    references = set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(document)))
    for reference in references:
        kind, name = reference.split("/")
        assert name in document["components"][kind]
    for name in document["components"]["schemas"]:
        jsonschema_rs.validator_for(schema_named(document, name))
        assert f"schemas/{name}" in references, "a schema that nothing uses"


def schema_named(document: Json, name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_fastapis_own_422_is_not_there(document: Json) -> None:
    text = json.dumps(document)
    assert "422" not in {status for _, _, operation in operations(document) for status in operation["responses"]}
    assert "HTTPValidationError" not in text


def subclasses(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_each_operation_says_what_it_answers_and_every_error_is_a_real_one(document: Json) -> None:
    codes = {(error.status, error.code) for error in subclasses(ApiError)}
    for method, path, operation in operations(document):
        assert operation["summary"] and len(operation["tags"]) == 1, path
        for status, answer in operation["responses"].items():
            assert "x-request-id" in answer["headers"]
            if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                assert answer["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
                assert {"x-should-retry", "retry-after"} <= set(answer["headers"])
                for code in re.findall(r"`(\w+)`", answer["description"]):
                    assert (int(status), code) in codes, (method, path, status, code)


def test_every_body_has_a_schema_and_an_example_that_keeps_it(document: Json) -> None:
    for method, path, operation in operations(document):
        if method not in ("POST", "PUT") or path == "/v1/responses/{response_id}/cancel":
            assert "requestBody" not in operation
            continue
        content = operation["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        jsonschema_rs.validator_for(schema).validate(content["example"])


@pytest.mark.parametrize("name", ["Guidance", "GuidanceRequest", "Budget", "FeedbackBody", "Candidate", "ErrorObject"])
def test_each_field_of_our_own_is_explained(document: Json, name: str) -> None:
    schema = document["components"]["schemas"][name]
    explained = {key for key, value in schema["properties"].items() if value.get("description")}
    assert set(schema["properties"]) - explained <= {"finish_reason", "completion_tokens"}
    assert schema["additionalProperties"] is False


def test_the_idempotency_key_is_where_it_works(document: Json) -> None:
    having = {
        path
        for _, path, operation in operations(document)
        if any(one["name"] == "idempotency-key" for one in operation.get("parameters", []))
    }
    assert having == {"/v1/chat/completions", "/v1/completions", "/v1/responses"}


def test_keys_are_bearers_and_probes_need_none(document: Json) -> None:
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert document["security"] == [{"ApiKey": []}, {}]
    open_to_all = {path for _, path, operation in operations(document) if operation.get("security") == []}
    assert open_to_all == {"/healthz", "/readyz", "/metrics"}


async def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        page = await (await gateway.session.get("/docs")).text()
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(addresses) == 3 and not [one for one in addresses if not one.startswith("/docs/files/")]
        assert "//" not in page.replace("<!--", "").split("SwaggerUIBundle({")[0].replace("</", "")
        for address in addresses:
            async with gateway.session.get(address) as reply:
                assert reply.status == 200 and len(await reply.read()) > 500
                assert "x-request-id" in reply.headers
        assert "/openapi.json" in page and '"validatorUrl": null' in page
        async with gateway.session.get("/docs/files/none.js") as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (404, "not_found")
        async with gateway.session.get("/docs/files/..%2f__init__.py") as reply:
            assert reply.status == 404


async def check(gateway: Harness, document: Json, method: str, path: str, wanted: int, **options: Any) -> Any:
    """Call an operation and hold the answer against the document. Returns the answer."""
    template = options.pop("template", path)
    async with gateway.session.request(method, path, **options) as reply:
        answer = await reply.json()
        assert reply.status == wanted, answer
        described = document["paths"][template][method.lower()]["responses"][str(reply.status)]
        schema = described["content"][reply.content_type]["schema"]
        jsonschema_rs.validator_for({**schema, "components": document["components"]}).validate(answer)
        documented = {name.lower() for name in described["headers"]}
        for name in reply.headers:
            assert not name.lower().startswith("x-") or name.lower() in documented, name
        for name in documented:
            required = document["components"]["headers"][name]["required"]
            assert not required or name in {one.lower() for one in reply.headers}, name
        return answer


async def test_answers_are_what_the_page_says(redis_server: RedisServer, tmp_path: Path) -> None:
    unsafe = FakeScorers(rewards=len, unsafe=frozenset({"bad", "three"}))
    always = {"share": 1}
    async with running_gateway(tmp_path, None, unsafe, redis_url=redis_server.url, comparison=always) as gateway:
        document = await (await gateway.session.get("/openapi.json")).json()
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        path = "/v1/chat/completions"
        await check(gateway, document, "POST", path, 200, json=chat)
        two = await check(gateway, document, "POST", path, 200, json={**chat, "guidance": {"comparison": True}})
        pick = {"id": two["id"], "kind": "preference", "choice": 0, "token": two["guidance"]["comparison"]["token"]}
        await check(gateway, document, "POST", "/v1/feedback", 202, json=pick)
        await check(gateway, document, "POST", path, 200, json={**chat, "guidance": {"return_candidates": True}})
        refused = {"model": "m", "messages": [{"role": "user", "content": "bad"}]}
        await check(gateway, document, "POST", path, 200, json=refused)
        await check(gateway, document, "POST", path, 400, json={})
        await check(gateway, document, "POST", path, 404, json={**chat, "model": "x"})
        for _ in range(2):
            answer = await check(gateway, document, "POST", path, 200, json=chat, headers={"idempotency-key": "k"})
        vote = {"id": answer["id"], "kind": "thumbs", "value": True, "tags": ["x"], "comment": "y"}
        await check(gateway, document, "POST", "/v1/feedback", 202, json=vote)
        await check(gateway, document, "POST", "/v1/feedback", 400, json={**vote, "value": 5})
        preference = {"id": answer["id"], "kind": "preference", "value": 2, "candidate": 0, "over": 1, "user": "u"}
        await check(gateway, document, "POST", "/v1/feedback", 202, json=preference)
        one = {"path": f"/v1/feedback/{answer['id']}", "template": "/v1/feedback/{interaction}"}
        await check(gateway, document, "GET", wanted=200, **one)
        await check(gateway, document, "DELETE", wanted=202, params={"kind": "thumbs"}, **one)
        await check(gateway, document, "DELETE", wanted=400, **one)
        await check(gateway, document, "GET", "/v1/models", 200)
        await check(gateway, document, "GET", "/v1/models/m", 200, template="/v1/models/{model}")
        await check(gateway, document, "GET", "/v1/models/x", 404, template="/v1/models/{model}")
        await check(gateway, document, "GET", "/healthz", 200)
        await check(gateway, document, "GET", "/readyz", 200)
        tenant = {"models": ["m"], "profiles": ["default"]}
        named = {"path": "/admin/v1/tenants/t", "template": "/admin/v1/tenants/{name}"}
        await check(gateway, document, "PUT", wanted=200, json=tenant, **named)
        await check(gateway, document, "GET", "/admin/v1/tenants", 200)
        await check(gateway, document, "DELETE", wanted=200, **named)
        added = {"policy": "policy", "url": "http://127.0.0.1:1", "reason": "more"}
        worker = await check(gateway, document, "POST", "/admin/v1/workers", 201, json=added)
        await check(gateway, document, "POST", "/admin/v1/workers", 409, json=added)
        here = {"path": f"/admin/v1/workers/{worker['id']}", "template": "/admin/v1/workers/{worker_id}"}
        for verb in ("drain", "undrain"):
            there = {key: f"{value}/{verb}" for key, value in here.items()}
            await check(gateway, document, "POST", wanted=200, **there)
        await check(gateway, document, "DELETE", wanted=200, **here)
        [listed] = (await check(gateway, document, "GET", "/admin/v1/workers", 200))["data"]
        mine = {"path": f"/admin/v1/workers/{listed['id']}", "template": "/admin/v1/workers/{worker_id}"}
        adapter = {"policy": "policy", "name": "a", "path": "/adapters/a"}
        await check(gateway, document, "POST", "/admin/v1/adapters", 201, json=adapter)
        await check(gateway, document, "GET", "/admin/v1/adapters", 200)
        named = {"path": "/admin/v1/adapters/policy/a", "template": "/admin/v1/adapters/{policy}/{name}"}
        await check(gateway, document, "DELETE", wanted=200, **named)
        await check(gateway, document, "DELETE", wanted=404, **named)
        await check(gateway, document, "DELETE", wanted=200, **mine)
        assert (await check(gateway, document, "GET", "/admin/v1/workers", 200))["removed"]
        await check(gateway, document, "POST", "/admin/v1/adapters", 503, json=adapter)
        new = {"name": "n", "scopes": ["admin"], "expires": "90d"}
        made = await check(gateway, document, "POST", "/admin/v1/keys", 201, json=new)
        with_key: Json = {"headers": {"authorization": f"Bearer {made['key']}"}}
        rotate: Json = {"path": f"/admin/v1/keys/{made['id']}/rotate", "template": "/admin/v1/keys/{key_id}/rotate"}
        await check(gateway, document, "POST", wanted=201, **rotate, **with_key)
        await check(gateway, document, "GET", "/admin/v1/keys", 200, **with_key)
        await check(gateway, document, "GET", "/admin/v1/keys", 401)


async def test_answers_about_profiles_and_scorers_are_what_the_page_says(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    scorers = FakeScorers(rewards=len)
    scorers.added.unloadable = {"/m/bad": "there are no weights"}
    async with running_gateway(tmp_path, scorers=scorers, redis_url=redis_server.url) as gateway:
        document = await (await gateway.session.get("/openapi.json")).json()

        async def said(method: str, path: str, wanted: int, **options: Any) -> Json:
            parts = path.split("/")
            template = "/".join([*parts[:4], "{name}", *parts[5:]]) if len(parts) > 4 else path
            found: Json = await check(gateway, document, method, path, wanted, template=template, **options)
            return found

        profile = {"version": 1, "settings": {"n": 2, "shadow": ["new"]}, "reason": "try it"}
        scorer = {"settings": {"kind": "reward", "model": "/m/new"}}
        bad = {"settings": {"kind": "reward", "model": "/m/bad"}}
        await said("PUT", "/admin/v1/scorers/new", 200, json=scorer)
        await said("PUT", "/admin/v1/scorers/bad", 400, json=bad)
        await said("PUT", "/admin/v1/scorers/reward", 409, json=scorer)
        await said("PUT", "/admin/v1/scorers/new", 400, json={"settings": {"kind": "reward"}})
        await said("GET", "/admin/v1/profiles", 200)
        await said("PUT", "/admin/v1/profiles/default", 200, json=profile)
        await said("PUT", "/admin/v1/profiles/default", 409, json=profile)
        await said("PUT", "/admin/v1/profiles/default", 400, json={**profile, "settings": {"n": 0}})
        assert (await gateway.chat())[0] == 200
        await until_compared(gateway)
        assert (await said("GET", "/admin/v1/scorers/new", 200))["agreement"][0]["requests"] == 1
        await said("GET", "/admin/v1/scorers", 200)
        await said("GET", "/admin/v1/scorers/no", 404)
        await said("DELETE", "/admin/v1/scorers/new", 409)
        await said("GET", "/admin/v1/profiles/default/history", 200)
        await said("GET", "/admin/v1/profiles/no/history", 404)
        await said("POST", "/admin/v1/profiles/default/revert", 200)
        await said("GET", "/admin/v1/profiles/default", 200)
        await said("DELETE", "/admin/v1/scorers/new", 200)
        await said("DELETE", "/admin/v1/scorers/new", 404)


async def until_compared(gateway: Harness) -> None:
    """Until a shadow scorer has read a request."""
    async with asyncio.timeout(5):
        while not gateway.metric("bestow_shadow_requests_total", scorer="new", outcome="scored"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_answers_about_the_log_are_what_the_page_says(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        document = await (await gateway.session.get("/openapi.json")).json()
        answer = (await gateway.chat())[2]["id"]
        assert (await gateway.session.post("/v1/feedback", json={"id": answer, "kind": "thumbs", "value": True})).ok
        assert await gateway.service.log.drained(10)
        path = "/admin/v1/interactions"
        assert len((await check(gateway, document, "GET", path, 200))["data"]) == 1
        await check(gateway, document, "GET", path, 400, params={"limit": "0"})
        template = f"{path}/{{interaction}}"
        assert (await check(gateway, document, "GET", f"{path}/{answer}", 200, template=template))["feedback"]
        await check(gateway, document, "GET", f"{path}/x", 400, template=template)
        await check(gateway, document, "GET", f"{path}/{new_completion_id()}", 404, template=template)
        order = await check(gateway, document, "DELETE", path, 202, params={"user": "ada"})
        await check(gateway, document, "DELETE", path, 400)
        template = "/admin/v1/erasures/{erasure}"
        await check(gateway, document, "GET", f"/admin/v1/erasures/{order['id']}", 200, template=template)
        await check(gateway, document, "GET", "/admin/v1/erasures/x", 404, template=template)
