"""The door of every endpoint: `caller = caller_of(request, "chat")`, before anything else is done."""

from dataclasses import replace

from starlette.datastructures import Headers
from starlette.requests import Request

from gateway.access.access import Access
from gateway.access.caller import PRIVILEGED, Caller, Scope
from gateway.access.door import missing
from gateway.access.keys import KEY_PREFIX
from gateway.errors import Forbidden
from gateway.ids import tagged
from gateway.signing import Signer
from scorers.local import from_this_machine


def caller_of(request: Request, scope: Scope) -> Caller:
    """Who calls, where they may do what `scope` is for.

    Leaves the caller in request.state.caller, and makes request.state.request_id an id of their tenant.
    Raises Unauthorized, Forbidden, Unavailable.
    """
    access: Access = request.app.state.access
    caller = access.identify(presented_key(request.headers))
    if not caller.has(scope):
        if caller.key_id is None:
            raise missing()
        raise Forbidden(f"this API key has the scopes {', '.join(sorted(caller.scopes))}; this needs the scope {scope}")
    if caller.key_id is None and caller.scopes & PRIVILEGED:
        peer = request.client.host if request.client else None
        if not from_this_machine(peer, request.headers):
            if scope in PRIVILEGED:
                raise Forbidden(
                    "without API keys this can only be called from this machine, at its own address (such as "
                    "http://127.0.0.1), and by no page of another site; make a key with `bestow keys create --name "
                    "NAME --scope admin`"
                )
            caller = replace(caller, scopes=caller.scopes - PRIVILEGED)
    set_caller(request, caller)
    return caller


def set_caller(request: Request, caller: Caller) -> None:
    """From here on the request, and its id, are this caller's."""
    signer: Signer = request.app.state.signer
    request.state.caller = caller
    request.state.request_id = tagged(request.state.request_id, signer.tag(caller.tenant))


def presented_key(headers: Headers) -> str | None:
    """The key that was sent: as a bearer, or in `x-api-key` or `api-key` as other providers' clients do.

    Where there are several, the first that looks like one of ours.
    """
    scheme, _, credential = headers.get("authorization", "").strip().partition(" ")
    sent = [
        credential.strip() if scheme.lower() == "bearer" else "",
        headers.get("x-api-key", "").strip(),
        headers.get("api-key", "").strip(),
    ]
    ours = [one for one in sent if one.startswith(KEY_PREFIX)]
    return next(iter(ours), None) or next(filter(None, sent), None)
