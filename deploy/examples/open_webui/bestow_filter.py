"""
title: Bestow: remember which answer a message is
description: Notes Bestow's id of an answer with its message, and tells Bestow who asks. Goes with bestow_feedback.
version: 1.0.0
"""

# Admin Panel > Functions > New > paste > Save; enable it, and make it global or choose it in each of Bestow's models.
#
# Open WebUI forgets the id that the model's server gave to an answer. It does keep a message's `usage`, in the chat and
# in the copy of the chat that goes with each rating: there the id is noted, as `usage.bestow_id`.

from typing import Any


class Filter:
    def inlet(self, body: dict[str, Any], __user__: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request on its way to the model. Bestow keeps a keyed hash of the user's id, never the id itself."""
        if __user__ and __user__.get("id") and not body.get("user"):
            body["user"] = __user__["id"]
        return body

    def stream(self, event: dict[str, Any]) -> dict[str, Any]:
        """A chunk of an answer. Only Bestow's last one has a receipt, `guidance`; others' answers pass as they are."""
        if isinstance(event, dict) and event.get("guidance") and event.get("id"):
            event["usage"] = {**(event.get("usage") or {}), "bestow_id": event["id"]}
        return event
