"""Names in Redis. All of a shard's keys share one hash tag, so that a cluster keeps them in one slot."""


def interactions_key(shard: str) -> str:
    return f"bestow:{{log-{shard}}}:interactions"


def feedback_key(shard: str) -> str:
    return f"bestow:{{log-{shard}}}:feedback"


def shadow_key(shard: str) -> str:
    return f"bestow:{{log-{shard}}}:shadow"


def votes_key(shard: str, interaction_id: str) -> str:
    """The hash of an interaction's current votes: Feedback.vote_key -> Feedback as JSON.

    It has no expiry; the archiver deletes it together with its interaction.
    """
    return f"bestow:{{log-{shard}}}:votes:{interaction_id}"
