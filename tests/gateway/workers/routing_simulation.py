"""Routing over 64 workers with skewed prefixes, simulated: what affinity gains, and what it costs in balance.

    python -m tests.gateway.workers.routing_simulation

Prints one table of policies and one of the router's parameters. Virtual time, seeded, nothing sleeps.

The world: tenants of Zipf popularity, most with a system prompt of their own; conversations of several turns, each
sampled n times, one of which goes into the next prompt; some requests whose prompt is too short for a key. A worker
keeps an LRU prefix cache of bounded size, reads what is not in it, then samples its sequences together, the more the
slower. Where it is full, requests wait in its queue.
"""

import heapq
import itertools
import math
import random
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gateway.workers.load import EngineLoad, Lease, WorkerLoad
from gateway.workers.prefix import PrefixKey, prefix_key
from gateway.workers.routing import FLOOR, HOMES, Router

BLOCK = 64  # tokens; vLLM has 16, which makes no difference here but to the running time
CACHE_BLOCKS = 2_500  # a worker: 160,000 tokens
MAX_SEQUENCES = 192  # a worker
READ_PER_S = 20_000.0  # tokens
STEP_S = 0.015  # one token of every sequence, with few of them; twice that with CROWD
CROWD = 64
# A prompt token is read in a tenth of the time in which one is sampled.
READ_COST = 0.1
# What a gateway expects of a sample; how long each will be it does not know.
EXPECTED_TOKENS = 350
REPORT_S = 2.0
# Share of the time in which conversations begin before anything is counted.
WARM_UP = 0.4

Block = tuple[int, int, int]


@dataclass(frozen=True)
class World:
    """What comes. The defaults make about 100 sequences a worker."""

    workers: int = 64
    tenants: int = 300
    zipf: float = 1.1
    conversations: int = 3_000
    per_s: float = 30.0
    seed: int = 4


@dataclass(frozen=True)
class Turn:
    """asked: tokens of the user's message. sampled: tokens of each candidate. think_s: until the next turn."""

    asked: int
    sampled: tuple[int, ...]
    think_s: float


@dataclass(frozen=True)
class Conversation:
    """system: tokens of its tenant's system prompt."""

    number: int
    tenant: int
    system: int
    key: PrefixKey | None
    start_s: float
    turns: tuple[Turn, ...]

    def blocks(self, tokens: int) -> list[Block]:
        """The whole blocks of its first `tokens`: those of the system prompt are the tenant's, the others its own."""
        shared = self.system // BLOCK
        return [(0, self.tenant, i) if i < shared else (1, self.number, i) for i in range(tokens // BLOCK)]


def conversations(world: World) -> list[Conversation]:
    """All that will be asked, by the time at which it begins; the same for every policy."""
    rng = random.Random(world.seed)
    weights = [1 / rank**world.zipf for rank in range(1, world.tenants + 1)]
    # Popular or not, every sixth tenant has no system prompt.
    systems = [0 if tenant % 6 == 5 else int(rng.lognormvariate(7.2, 0.6)) for tenant in range(world.tenants)]
    found = []
    at = 0.0
    for number in range(world.conversations):
        at += rng.expovariate(world.per_s)
        tenant = rng.choices(range(world.tenants), weights)[0]
        short = rng.random() < 0.1
        key = _key(tenant, bool(systems[tenant]), "hello" if short else f"question {number} " * 8)
        turns = _turns(rng, short)
        found.append(Conversation(number, tenant, systems[tenant], key, at, turns))
    return found


def _key(tenant: int, system: bool, asked: str) -> PrefixKey | None:
    messages = [{"role": "system", "content": f"You answer for tenant {tenant}. " * 20}] if system else []
    return prefix_key({"cache_salt": f"salt {tenant}", "messages": [*messages, {"role": "user", "content": asked}]})


def _turns(rng: random.Random, short: bool) -> tuple[Turn, ...]:
    n = rng.choice((1, 4, 4, 8))
    return tuple(
        Turn(
            asked=8 if short else 20 + int(rng.lognormvariate(4.5, 0.9)),
            sampled=tuple(min(1000, 10 + int(rng.lognormvariate(5.65, 0.6))) for _ in range(n)),
            think_s=rng.expovariate(1 / 4),
        )
        for _ in range(1 if short else min(10, 1 + int(rng.expovariate(1 / 3))))
    )


@dataclass(eq=False)
class Request:
    """One turn on its way. prompt: its tokens. lease: what its gateway believes that it weighs."""

    conversation: Conversation
    number: int
    prompt: int
    began_s: float
    lease: Lease

    @property
    def turn(self) -> Turn:
        return self.conversation.turns[self.number]

    @property
    def n(self) -> int:
        return len(self.turn.sampled)


class Engine:
    """A vLLM server. left: tokens that it has to work off, by their real number and whoever sent them."""

    def __init__(self) -> None:
        self.left = 0.0
        self.running = 0
        self.waiting: deque[Request] = deque()
        self._cache: OrderedDict[Block, None] = OrderedDict()

    def cached(self, blocks: Sequence[Block]) -> int:
        """How many of a prompt's first blocks it has."""
        return next((at for at, block in enumerate(blocks) if block not in self._cache), len(blocks))

    def keep(self, blocks: Sequence[Block]) -> None:
        # The end of a prompt is given up before its beginning, as in vLLM.
        for block in reversed(blocks):
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) > CACHE_BLOCKS:
            self._cache.popitem(last=False)

    def report(self) -> EngineLoad:
        return EngineLoad(running=self.running, waiting=sum(request.n for request in self.waiting))


@dataclass(eq=False)
class Seen:
    """A worker as one gateway knows it."""

    id: str
    engine: Engine
    load: WorkerLoad = field(default_factory=WorkerLoad)


Choose = Callable[[Sequence[Seen], PrefixKey | None, float], Seen]


@dataclass(frozen=True)
class Outcome:
    """hit_share: of all prompt tokens, those found in the cache. worst, p99: the busiest worker's load over the mean of
    all, at the worst arrival and at 1 in 100. waited: share of requests that waited in a worker's queue. wall_s: of a
    request, mean. load: tokens a worker had to work off, mean.
    """

    hit_share: float
    worst: float
    p99: float
    waited: float
    wall_s: float
    load: float

    def __str__(self) -> str:
        return (
            f"{self.hit_share:6.3f} {self.worst:7.2f} {self.p99:7.2f} {self.waited:8.3f} {self.wall_s:7.2f}"
            f" {self.load:8.0f}"
        )


class Simulation:
    """Requests come to the gateways in turn, which know of each other's by the workers' reports alone."""

    def __init__(self, plan: Sequence[Conversation], workers: int, gateways: Sequence[Choose]) -> None:
        self._plan = plan
        self._gateways = gateways
        self._engines = [Engine() for _ in range(workers)]
        self._views = [[Seen(f"w-{at:08x}", engine) for at, engine in enumerate(self._engines)] for _ in self._gateways]
        self._order = itertools.count()
        self._gateway = itertools.cycle(range(len(gateways)))
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._now = 0.0
        self._prompt_tokens = self._hit_tokens = self._waited = 0
        self._ratios: list[float] = []
        self._means: list[float] = []
        self._walls: list[float] = []

    def run(self) -> Outcome:
        for one in self._plan:
            self._at(one.start_s, partial(self._arrive, one, 0, 0))
        self._report()
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        ratios = sorted(self._ratios)
        return Outcome(
            hit_share=self._hit_tokens / self._prompt_tokens,
            worst=ratios[-1],
            p99=ratios[int(len(ratios) * 0.99)],
            waited=self._waited / len(ratios),
            wall_s=statistics.fmean(self._walls),
            load=statistics.fmean(self._means),
        )

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    @property
    def _counted(self) -> bool:
        end = self._plan[-1].start_s
        return WARM_UP * end <= self._now <= end

    def _report(self) -> None:
        for view in self._views:
            for seen in view:
                seen.load.report(seen.engine.report())
        if self._events:
            self._at(self._now + REPORT_S, self._report)

    def _arrive(self, conversation: Conversation, number: int, said: int) -> None:
        """said: tokens of the conversation so far, without the system prompt."""
        turn = conversation.turns[number]
        prompt = conversation.system + said + turn.asked
        which = next(self._gateway)
        n = len(turn.sampled)
        cost = READ_COST * prompt + n * EXPECTED_TOKENS
        seen = self._gateways[which](self._views[which], conversation.key, cost)
        request = Request(conversation, number, prompt, self._now, seen.load.take(n, cost))
        engine = seen.engine
        engine.left += READ_COST * prompt + sum(turn.sampled)
        waits = bool(engine.waiting) or engine.running + request.n > MAX_SEQUENCES
        if self._counted:
            loads = [one.left for one in self._engines]
            self._means.append(statistics.fmean(loads))
            self._ratios.append(max(loads) / self._means[-1])
            self._waited += waits
        if waits:
            engine.waiting.append(request)
        else:
            self._start(engine, request)

    def _start(self, engine: Engine, request: Request) -> None:
        blocks = request.conversation.blocks(request.prompt)
        hit = BLOCK * engine.cached(blocks)
        if self._counted:
            self._prompt_tokens += request.prompt
            self._hit_tokens += hit
        engine.keep(blocks)
        engine.running += request.n
        step_s = STEP_S * (1 + engine.running / CROWD)
        read_s = self._now + (request.prompt - hit) / READ_PER_S
        self._at(read_s, partial(self._progress, engine, request, READ_COST * request.prompt))
        before = 0
        for ended, tokens in enumerate(sorted(request.turn.sampled)):
            sampled = (tokens - before) * (request.n - ended)
            before = tokens
            last = ended == request.n - 1
            self._at(read_s + tokens * step_s, partial(self._finished, engine, request, sampled, last))

    def _progress(self, engine: Engine, request: Request, tokens: float) -> None:
        engine.left -= tokens
        request.lease.progress(round(tokens))

    def _finished(self, engine: Engine, request: Request, sampled: int, last: bool) -> None:
        """One candidate ends. sampled: tokens of all of the request's since the one before it ended."""
        engine.running -= 1
        self._progress(engine, request, sampled)
        request.lease.finished()
        if last:
            self._end(engine, request)
        while engine.waiting and engine.running + engine.waiting[0].n <= MAX_SEQUENCES:
            self._start(engine, engine.waiting.popleft())

    def _end(self, engine: Engine, request: Request) -> None:
        request.lease.close()
        if self._counted:
            self._walls.append(self._now - request.began_s)
        conversation, number = request.conversation, request.number
        chosen, *others = request.turn.sampled
        # The losers are in the cache too, for nothing.
        for place, tokens in enumerate(others):
            loser = (conversation.number * 10 + number) * 10 + place
            engine.keep([(2, loser, i) for i in range(tokens // BLOCK)])
        engine.keep(conversation.blocks(request.prompt + chosen))
        if number + 1 < len(conversation.turns):
            said = request.prompt - conversation.system + chosen
            self._at(self._now + request.turn.think_s, partial(self._arrive, conversation, number + 1, said))


def round_robin() -> Choose:
    turn = itertools.count()
    return lambda workers, key, cost: workers[next(turn) % len(workers)]


def least_loaded() -> Choose:
    return lambda workers, key, cost: min(workers, key=lambda worker: worker.load.score())


def two_choices() -> Choose:
    router = Router(random.Random(1))
    return lambda workers, key, cost: router.choose(workers, None, cost)


def pure_hashing(homes: int) -> Choose:
    """Our hashing without a bound: a conversation goes to its worker whatever that has to do."""
    return ours(bound=math.inf, homes=homes)


def ours(*, bound: float = 1.25, floor: float = FLOOR, homes: int = HOMES, seed: int = 1) -> Choose:
    return Router(random.Random(seed), bound=bound, floor=floor, homes=homes).choose


def main() -> None:
    head = f"{'':44}{'hits':>6} {'worst':>7} {'p99':>7} {'waited':>8} {'wall_s':>7} {'load':>8}"
    plan = conversations(World())

    def show(name: str, *gateways: Choose) -> None:
        print(f"{name:44}{Simulation(plan, World.workers, gateways).run()}", flush=True)

    print(f"Policies\n{head}")
    show("round-robin", round_robin())
    show("least loaded", least_loaded())
    show("power of two choices", two_choices())
    show("pure hashing of conversations", pure_hashing(World.workers))
    show("pure hashing of system prompts, 4 homes", pure_hashing(4))
    show("pure hashing of system prompts, 1 home", pure_hashing(1))
    show("ours", ours())
    show("ours, 2 gateways", ours(seed=1), ours(seed=2))
    show("least loaded, 2 gateways", least_loaded(), least_loaded())
    print(f"\nParameters of ours\n{head}")
    for bound, homes in itertools.product((1.1, 1.25, 1.5, 2.0), (1, 2, 4, 8)):
        show(f"bound {bound}, {homes} homes", ours(bound=bound, homes=homes))
    print(f"\nA tenth of the traffic\n{head}")
    plan = conversations(World(conversations=600, per_s=3.0))
    show("least loaded", least_loaded())
    show("pure hashing of conversations", pure_hashing(World.workers))
    for floor in (0.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0):
        show(f"ours, floor {floor:.0f}", ours(floor=floor))


if __name__ == "__main__":
    main()
