"""Who calls, and what they may do."""

from dataclasses import dataclass
from typing import Literal, get_args

from gateway.admission.tiers import Tier

Scope = Literal["chat", "feedback", "read-logs", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL_SCOPES: tuple[Scope, ...] = ("chat", "feedback")
# What shows or changes the affairs of others.
PRIVILEGED: frozenset[Scope] = frozenset({"read-logs", "admin"})
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant a request counts for and its rights. key_id: None for callers without a key.

    models, profiles: the names the tenant may use; None means all. tier: the highest class its requests may have. The
    scope `admin` implies all others.
    """

    tenant: str
    key_id: str | None
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    profiles: frozenset[str] | None = None
    tier: Tier = "default"

    def has(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def may_use_model(self, name: str) -> bool:
        return self.models is None or name in self.models

    def may_use_profile(self, name: str) -> bool:
        return self.profiles is None or name in self.profiles

    @property
    def operates(self) -> bool:
        """Whether they manage what all tenants share."""
        return self.has("admin") and self.tenant == DEFAULT_TENANT

    @property
    def actor(self) -> str:
        """As it is written down beside a change."""
        return f"key:{self.key_id}" if self.key_id else "anonymous"
