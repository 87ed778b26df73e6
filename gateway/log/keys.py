"""Names in Redis. All of a shard's keys share one hash tag, so that a cluster keeps them in one slot."""

from gateway.log.frames import Kind

# The streams, and the archive's partitions.
STREAM_NAMES = {Kind.INTERACTION: "interactions", Kind.FEEDBACK: "feedback", Kind.SHADOW: "shadow"}


def stream_key(shard: str, kind: Kind) -> str:
    return f"bestow:{{log-{shard}}}:{STREAM_NAMES[kind]}"


def interactions_key(shard: str) -> str:
    return stream_key(shard, Kind.INTERACTION)


def feedback_key(shard: str) -> str:
    return stream_key(shard, Kind.FEEDBACK)


def shadow_key(shard: str) -> str:
    return stream_key(shard, Kind.SHADOW)


def votes_key(shard: str, interaction_id: str) -> str:
    """The hash of an interaction's current votes: Feedback.vote_key -> Feedback as JSON.

    It has no expiry; the archiver takes a vote out once the record of it is in the archive.
    """
    return f"bestow:{{log-{shard}}}:votes:{interaction_id}"


def archived_key(shard: str) -> str:
    """A hash of how far the streams are archived: `<run id of Redis>/<stream's name>` -> entry id; see `watermarks`."""
    return f"bestow:{{log-{shard}}}:archived"


def archiver_key(shard: str) -> str:
    """The lock of whoever archives."""
    return f"bestow:{{log-{shard}}}:archiver"
