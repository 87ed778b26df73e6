"""What the configuration says of feedback: how much is taken, what it weighs, and who is told of it."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from gateway.log.records import FeedbackKind
from scorers.local import is_loopback
from scorers.settings import Section, Url


class FeedbackLimitsConfig(Section):
    """Votes and retractions a minute, together over all gateways; as many may come at once."""

    per_user_per_minute: int = Field(
        120, ge=0, description="Of one user, as the request or its feedback token names them; 0: no limit."
    )
    per_key_per_minute: int = Field(6000, ge=0, description="With one API key; 0: no limit.")
    per_address_per_minute: int = Field(
        3000, ge=0, description="From one client address (IPv6: one /64 network); 0: no limit."
    )


FlagReason = Annotated[str, Field(min_length=1, max_length=64)]


class Receiver(Section):
    """Who is told of something, signed."""

    url: Url = Field(description="Where it is POSTed, signed as Standard Webhooks says.")
    secret_file: Path = Field(
        description="File with the secret that signs, whsec_ and 24 to 64 bytes in base64; to rotate it, two lines: "
        "both sign. It is read again while the gateway runs."
    )
    timeout_s: float = Field(10.0, gt=0, le=60, description="How long the receiver may take to answer.")
    plain_http: bool = Field(False, description="Allow http:// to another machine: what is told goes unencrypted.")

    @model_validator(mode="after")
    def _is_private(self) -> "Receiver":
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not self.plain_http and not is_loopback(parts.hostname or ""):
            raise ValueError(f"url: {self.url} is not encrypted: use https://, or say plain_http: true")
        return self


class WebhookConfig(Receiver):
    """Who is told of votes."""

    kinds: list[FeedbackKind] = Field([], description="Which kinds of feedback; [] means all.")


class TrustConfig(Section):
    """How votes are weighed, and which are set aside until an operator has looked (`bestow feedback review`)."""

    false_alarm: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="Chance that honest votes, of all that are assessed together, are taken for a burst, and the same "
        "for votes on others' answers.",
    )
    window_s: float = Field(600.0, gt=0, description="Seconds in which a burst is looked for.")
    user_per_window: float = Field(10.0, gt=0, description="Votes that a busy user casts in a window, on average.")
    source_per_window: float = Field(50.0, gt=0, description="Votes from a busy address, unless it is used to more.")
    key_per_window: float = Field(200.0, gt=0, description="Votes with a busy API key, unless it is used to more.")
    user_weight_per_day: float = Field(
        20.0, gt=0, description="Most weight that one user's votes on one model have in a day (UTC), together."
    )
    key_weight_per_day: float = Field(2000.0, gt=0, description="The same for one API key.")


class FeedbackConfig(Section):
    flag_reasons: list[FlagReason] = Field(
        ["unsafe", "hallucination", "off-task", "refused", "other"],
        description="The reasons that a flag can have as its value; any other is a 400.",
    )
    webhooks: list[WebhookConfig] = Field(
        [], description="Who is told of every accepted vote and retraction, at least once; see docs/feedback.md."
    )
    limits: FeedbackLimitsConfig = Field(
        FeedbackLimitsConfig(), description="How much feedback is taken; beyond it the answer is a 429."
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=16,
        description="Proxies in front that append to X-Forwarded-For; 0: the header is not believed, and a client's "
        "address is the one that connects.",
    )
    trust: TrustConfig = Field(TrustConfig(), description="What votes weigh, and which are set aside.")
