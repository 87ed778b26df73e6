"""What users asked lately, for the simulated deployment: prompts of the log that may be used for training."""

from collections.abc import Iterable

from redis.asyncio import Redis

from gateway.log.archive.reader import Archive
from gateway.log.own_requests import is_own
from gateway.log.records import Interaction
from gateway.log.streams import interactions
from training.data.conversations import asked_as_chat, digest_of, prompt_messages
from training.evaluation.items import Item, PromptSet

_READ = 20


async def logged_prompts(redis: Redis, shard: str, archive: Archive | None, model: str, most: int) -> PromptSet:
    """The newest different ones that were asked of the model. Raises RedisError, OSError."""
    reader = interactions(redis, shard, archive)
    records = await reader.last(_READ * most)
    return PromptSet("deployment", tuple(usable((one.record for one in reversed(records)), model, most)))


def usable(records: Iterable[Interaction], model: str, most: int) -> list[Item]:
    """Each prompt once. A person's prompts hang together. records: newest first. Pure."""
    found: dict[str, Item] = {}
    for record in records:
        if len(found) == most:
            break
        if record.model != model or record.training == "none" or is_own(record) or not asked_as_chat(record):
            continue
        messages = prompt_messages(record)
        if isinstance(messages, str):
            continue
        name = digest_of(messages)[:16]
        found.setdefault(name, Item(id=name, turns=[messages], category=record.tenant, cluster=record.user or name))
    return list(found.values())
