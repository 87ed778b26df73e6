"""One chat request from plan to answer: guard, decoding, choice; and its record in the log, however it ends.

service.begin(request)      -> Exchange     control: which model, profile and bounds (400, 403 and 404 from here)
exchange.run()              -> Answer       prompt fits? prompt safe? strategy -> second check -> the best safe ones
exchange.live()             -> Piece ...    the same for what leaves before it is whole; its Answer is the last item
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from random import Random, SystemRandom
from typing import Any

from gateway.access.caller import Caller
from gateway.admission.admission import Admission, Place
from gateway.answers import Answer, Comparison, Piece, Refused
from gateway.api.protocol import ChatRequest
from gateway.comparison.pair import Draw, Pair, pair_of
from gateway.comparison.reading import read_again
from gateway.config import Config, ModelConfig
from gateway.control.cards import CardStore
from gateway.control.plan import Plan, make_plan
from gateway.control.profiles import ModelDirectory, ProfileStore
from gateway.control.shadow import Delivered, delivered_of
from gateway.decoding.candidate import Judged
from gateway.decoding.cascade import steps_of
from gateway.decoding.first import first
from gateway.decoding.judge import ScorerJudge
from gateway.decoding.registry import strategy
from gateway.decoding.reward_laws import RewardLaws
from gateway.decoding.sampler import PoolSampler
from gateway.decoding.second_check import Check, checked_again
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.strategy import Decision, Progress, Strategy, Task
from gateway.decoding.validity import requirements_of
from gateway.errors import (
    ApiError,
    ContentBlocked,
    ContextTooLong,
    DeadlineExceeded,
    Forbidden,
    GuardUnavailable,
    WorkerError,
)
from gateway.guard.guard import Guard
from gateway.guard.live import LiveGuard
from gateway.guard.verdict import Rules, nearness
from gateway.ids import tagged
from gateway.log.records import Message, Outcome, Timings, Verdict
from gateway.log.writer import RecordLog
from gateway.recording import count_interaction, interaction_of, milliseconds, since
from gateway.release.route import RELEASE_UNAVAILABLE, Route, unit_of
from gateway.release.routes import Releases
from gateway.scoring import Conversation, ScorerHandle
from gateway.signing import Signer
from gateway.tasks import end
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.waiting import WaitClock
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Part

logger = logging.getLogger(__name__)

# How long the second check may read on after the deadline: the best so far must pass it too.
_SECOND_CHECK_GRACE_S = 1.0


class ChatService:
    """Everything that answering needs; made once a process."""

    def __init__(
        self,
        config: Config,
        pools: Mapping[str, WorkerPool],
        admissions: Mapping[str, Admission],
        scorers: Mapping[str, ScorerHandle],
        profiles: ProfileStore,
        models: ModelDirectory,
        cards: CardStore,
        releases: Releases,
        log: RecordLog,
        signer: Signer,
        metrics: Metrics,
        shadow: Callable[[Delivered | None], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.pools = pools
        self.admissions = admissions
        self.scorers = scorers
        self.profiles = profiles
        self.models = models
        self.cards = cards
        self.releases = releases
        self.log = log
        self.signer = signer
        self.metrics = metrics
        self.shadow = shadow
        self.now = now
        self.laws = RewardLaws()

    def begin(self, request: ChatRequest, completion_id: str, caller: Caller) -> "Exchange":
        """Raises ModelNotFound, Forbidden, NotFound or BadRequest; nothing was spent or logged then.

        The exchange's id is `answer_id`'s.
        """
        timeout_s = self.config.gateway.request_timeout_s
        model = self.models.get(request.model, caller)
        plan = make_plan(request, caller, model, self._route(request, caller, model), self.profiles, timeout_s)
        identifier = self.answer_id(completion_id, request.model, caller.tenant, store=request.store)
        return Exchange(self, request, plan, identifier, caller.tenant)

    def _route(self, request: ChatRequest, caller: Caller, model: ModelConfig) -> Route:
        """The release that answers. Raises Forbidden, NotFound."""
        wish = request.guidance.policy
        if wish is None:
            user = unit_of(caller.tenant, self.signer.hash_user(request.user))
            return self.releases.route(request.model, model, user)
        if not caller.operates:
            raise Forbidden(
                "guidance.policy: what is not released is for operators alone, with an admin key of the tenant default",
                param="guidance.policy",
                code="policy_forbidden",
            )
        return self.releases.pinned(request.model, model, wish)

    def answer_id(self, identifier: str, model: str, tenant: str, *, store: bool) -> str:
        """An id as an answer of such a request has it: it tells every gateway whether anything is kept of it."""
        unstored = self.log.privacy.policies.of(model, tenant).unstored(identifier, asked=store)
        return tagged(identifier, self.signer.tag(tenant, stored=unstored is None))


class Exchange:
    """One request being answered. `progress` tells how far it is. Raises BadRequest for a schema that is none."""

    def __init__(self, service: ChatService, request: ChatRequest, plan: Plan, completion_id: str, tenant: str) -> None:
        self.service = service
        self.request = request
        self.plan = plan
        self.id = completion_id
        self.tenant = tenant
        self.requirements = requirements_of(request.passed_on)
        self.created = service.now()
        self.progress = Progress()
        self.user = service.signer.hash_user(request.user)
        self.session = service.signer.hash_session(tenant, request.session)
        policy = service.log.privacy.policies.of(plan.model, tenant)
        self.training = policy.training
        self.unstored = policy.unstored(completion_id, asked=request.store)
        self._started = time.perf_counter()
        self.loop_started = asyncio.get_running_loop().time()
        self._deadline = self.loop_started + plan.budget_s
        self._waiting = WaitClock()
        self.prompt_verdict: Verdict | None = None
        self._guard_s = 0.0
        self._second_check_s = 0.0
        self._queue_s = 0.0
        self.n = self.wanted = plan.n
        self._degraded: str | None = None
        self._ended = False
        settings = plan.profile.settings
        form = request.passed_on.get("response_format")
        self.conversation = Conversation(
            request.messages, request.tools, form if isinstance(form, dict) else None, request.guidance.reference
        )
        # Kept from here on: a scorer may be replaced while this request runs.
        self._scorers = {name: service.scorers[name] for name in settings.deciding}
        self.reward = self._scorers[settings.reward] if settings.reward else None
        self._input_guard = self._guard_of(settings.guards)
        self.guard, self.second_check = self._input_guard, None
        if settings.second_check and plan.live:
            # What has left cannot be taken back: it reads with the guards.
            self.guard = self._guard_of((*settings.guards, settings.second_check))
        elif settings.second_check:
            self.second_check = self._guard_of((settings.second_check,))
        body = {**plan.sampling, "cache_salt": service.signer.cache_salt(tenant)}
        self.sampler = PoolSampler(
            service.pools[plan.policy],
            body,
            plan.seed,
            self._waiting,
            request.path,
            plan.streamable,
            self._deadline,
            plan.adapter,
            request.body_bytes,
            logprobs=service.config.log.logprobs and self.unstored is None,
        )

    @property
    def _prompt_field(self) -> str:
        """What an error about the prompt names."""
        return "prompt" if "prompt" in self.request.passed_on else "messages"

    @property
    def extras(self) -> dict[str, Any]:
        """What the worker has said of the request so far: prompt_token_ids, system_fingerprint, ..."""
        return self.sampler.extras

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt; 0 until the worker has said it."""
        return self.sampler.prompt_tokens

    @property
    def reward_model(self) -> str | None:
        """Version of the reward model, name@N."""
        return self.reward.version if self.reward else None

    def _guard_of(self, names: Sequence[str]) -> Guard | None:
        settings = self.plan.profile.settings
        rules = Rules(
            settings.safety_threshold, settings.category_thresholds, settings.action, settings.category_actions
        )
        return Guard([self._scorers[name] for name in names], rules) if names else None

    async def run(self) -> Answer:
        """The answer. Raises ApiError. The interaction is logged before it returns or raises, cancelled ones too."""
        with self._recorded():
            if refusal := await self._admit():
                return refusal
            with await self._granted() as place:
                task = self._task(place)
                decision = await self._strategy.run(task, self.sampler, self._judge(place), self.progress)
                passes = self.plan.profile.settings.unreadable == "pass"
                if not all(decision.judged[position].safe(passes) for position in decision.order):
                    # Those of others are not ours to trust with this.
                    raise RuntimeError(f"strategy {self.plan.strategy} would deliver what the guard keeps back")
                order = decision.order
                decision = await self._checked_again(decision)
                decision, pair = await self._compared(decision, order, task.chooser)
            return self._decided(decision, place, pair)

    async def live(self) -> AsyncGenerator[Piece | Answer, None]:
        """What may leave, as it comes, and the answer at the end. Raises ApiError, and logs, as `run` does."""
        with self._recorded():
            if refusal := await self._admit():
                yield refusal
                return
            with await self._granted() as place:
                parts = self._first(place) if self.plan.live == "first" else self._blocks(place)
                async with aclosing(parts) as items:
                    async for item in items:
                        if isinstance(item, Part):
                            yield Piece(0, item.delta, item.logprobs, item.token_ids, item.tokens)
                        else:
                            yield self._decided(item, place)

    def _first(self, place: Place) -> AsyncGenerator[Part | Decision, None]:
        return first(self._task(place), self.sampler, self._judge(place), self._live_guard(), self.progress)

    async def _blocks(self, place: Place) -> AsyncGenerator[Part | Decision, None]:
        """What the strategy gives away as it chooses, then its decision."""
        # It goes on choosing while a part is being written, and no further ahead.
        parts: asyncio.Queue[Part | None] = asyncio.Queue(1)

        async def decide() -> Decision:
            try:
                task = replace(self._task(place), release=parts.put)
                return await self._strategy.run(task, self.sampler, self._judge(place), self.progress)
            finally:
                with suppress(asyncio.QueueFull):
                    parts.put_nowait(None)

        deciding = asyncio.create_task(decide())
        try:
            while not deciding.done() or not parts.empty():
                taken = await parts.get()
                if taken is not None:
                    self.progress.first_candidate.set()
                    yield taken
            yield await deciding
        finally:
            await end(deciding)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Log and count a request that ends without an answer."""
        with self.service.metrics.in_flight.track_inprogress():
            try:
                yield
            except (asyncio.CancelledError, GeneratorExit):
                if not self._ended:
                    self._record("cancelled", status=499, error="cancelled before its end")
                raise
            except ApiError as error:
                if isinstance(error, WorkerError):
                    self.service.metrics.worker_failures.labels(self.plan.policy, error.code).inc()
                outcome: Outcome = "blocked" if isinstance(error, ContentBlocked) else "failed"
                self._record(outcome, status=error.status, error=error.message)
                raise
            except Exception as error:
                logger.exception("request %s failed", self.id)
                self._record("failed", status=500, error=type(error).__name__)
                raise ApiError("the gateway failed on this request; its log has the reason") from error

    async def _admit(self) -> Answer | None:
        """See that the prompt fits and is safe. Returns the refusal of one that is not, or raises ContentBlocked."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._fit_into_context()
        except TimeoutError:
            raise _prompt_late() from None
        self._degraded = await self._check_prompt()
        if self.prompt_verdict and self.prompt_verdict.blocked:
            raise ContentBlocked("the prompt was blocked by the content policy of this model", param=self._prompt_field)
        if self.prompt_verdict and self.prompt_verdict.flagged:
            return self._finish((), (), "prompt", None, None)
        near = self.plan.profile.settings.near_guard
        if (
            near
            and self.prompt_verdict
            and self._input_guard
            and nearness(self.prompt_verdict, self._input_guard.rules, self._input_guard.scorers[0].name) >= near.at
        ):
            self.wanted = max(self.plan.deliver, min(self.wanted, near.n))
        return None

    async def _granted(self) -> Place:
        """Places at the workers, waited for while they are full. Raises RateLimited, Unavailable."""
        plan = self.plan
        begun = time.perf_counter()
        try:
            with self._waiting:
                place = await self.service.admissions[plan.policy].admit(
                    plan.tier, self.tenant, self.wanted, min(plan.least, self.wanted), self._deadline
                )
        finally:
            self._queue_s = time.perf_counter() - begun
        self.n, self.sampler.place = place.n, place
        return place

    def _decided(self, decision: Decision, place: Place, pair: Pair | None = None) -> Answer:
        if decision.because:
            self.service.metrics.strategy_replaced.labels(self.plan.model, self.plan.strategy, decision.because).inc()
        delivered = tuple(decision.judged[position] for position in decision.order[: self.plan.deliver])
        refused: Refused | None = None if delivered else "candidates"
        if refused and any(one.blocked for one in decision.judged):
            raise ContentBlocked("every answer was blocked by the content policy of this model")
        degraded = self._degraded or decision.degraded
        if delivered and len(delivered) < self.plan.deliver:
            degraded = degraded or "fewer_safe"
        unresampled = refused and self._rounds() and not place.resample
        if place.shrunk or unresampled:
            degraded = degraded or "load"
        if pair:
            delivered = decision.judged[pair.chosen], decision.judged[pair.other]
        return self._finish(decision.judged, delivered, refused, degraded, decision, pair)

    async def _fit_into_context(self) -> None:
        """Refuse a prompt that is too long before any model reads it; give a default limit what room there is.

        A token is at least a byte of the body, so most requests need no count. Others cost one call to /tokenize.
        """
        limit = self.sampler.pool.max_model_len
        max_tokens = self.plan.max_tokens
        truncated = self.request.passed_on.get("truncate_prompt_tokens") is not None
        if limit is None or truncated or self.request.body_bytes + max_tokens <= limit:
            self.sampler.body["max_tokens"] = max_tokens
            return
        try:
            with self._waiting:
                count = await self.sampler.pool.count_tokens(self.plan.sampling, self.plan.adapter)
        except WorkerError:
            # A server without /tokenize: it will say by itself what does not fit.
            self.sampler.body["max_tokens"] = max_tokens
            return
        wanted = max_tokens if self.plan.max_tokens_given else 1
        if count + wanted > limit:
            prompt = self._prompt_field
            raise ContextTooLong(
                f"This model's context is {limit} tokens. The request needs {count + wanted}: {count} in the {prompt}, "
                f"{wanted} for the answer. Shorten the {prompt} or lower max_tokens.",
                param=prompt,
            )
        self.sampler.body["max_tokens"] = min(max_tokens, limit - count)

    async def _check_prompt(self) -> str | None:
        """Ask the guard about the prompt. Returns a reason for `degraded`. Raises GuardUnavailable."""
        if self._input_guard is None:
            return None
        begun = time.perf_counter()
        with self._waiting:
            verdict = await self._input_guard.check_prompt(self.conversation, self._deadline)
        self.prompt_verdict = verdict
        if verdict is None:
            return None
        self._guard_s = time.perf_counter() - begun
        self.service.metrics.guard_seconds.observe(self._guard_s)
        if verdict.flagged or verdict.error is None:
            return None
        if asyncio.get_running_loop().time() >= self._deadline:
            raise _prompt_late()
        if self.plan.profile.settings.unreadable == "pass":
            return "guard_unavailable"
        raise GuardUnavailable(
            f"The safety check cannot answer for this prompt: {verdict.error}",
            retry_after=None if verdict.unreadable else 2.0,
        )

    async def _checked_again(self, decision: Decision) -> Decision:
        """What of the decision the second check lets pass. Raises GuardUnavailable."""
        if self.second_check is None or not decision.order:
            return decision
        plan, check = self.plan, self._second_reader(self.second_check)
        # What the receipt lists must have passed as well.
        wanted = len(decision.order) if plan.return_candidates else plan.deliver
        passes = plan.profile.settings.unreadable == "pass"
        begun = time.perf_counter()
        try:
            with self._waiting:
                return await checked_again(decision, wanted, check, self.progress, unjudged_passes=passes)
        finally:
            self._second_check_s = time.perf_counter() - begun
            self.service.metrics.second_check_seconds.observe(self._second_check_s)

    def _second_reader(self, guard: Guard) -> Check:
        deadline = max(self._deadline, asyncio.get_running_loop().time() + _SECOND_CHECK_GRACE_S)

        async def check(message: Message) -> Verdict:
            return await guard.check_candidate(self.conversation, message, deadline)

        return check

    async def _compared(
        self, decision: Decision, order: Sequence[int], chooser: Chooser
    ) -> tuple[Decision, Pair | None]:
        """Another answer to show beside the chosen one, where two are asked for and there is one.

        order: all that the strategy would deliver. Of the decision only second verdicts on others may be new.
        """
        if not (self.plan.comparable and not self.requirements.any and self.unstored is None and decision.order):
            return decision, None
        settings, drawn = self.plan.profile.settings.comparison, Draw.of(self.id)
        if drawn.asked >= settings.share:
            self.service.metrics.comparisons.labels(self.plan.model, "not_asked").inc()
            return decision, None
        judged, chosen, pair = decision.judged, decision.order[0], None
        if not decision.outcomes.fallback:
            able = [position for position in chooser.peers(judged, chosen) if position in order]
            if self.second_check is not None and len(able) > 1:
                begun = time.perf_counter()
                with self._waiting:
                    judged = await read_again(judged, able, self._second_reader(self.second_check))
                self._second_check_s += time.perf_counter() - begun
            able = [position for position in able if judged[position].safe(unjudged_passes=False)]
            pair = pair_of(judged, able, chosen, decision.outcomes.candidates, settings.against, drawn)
        self.service.metrics.comparisons.labels(self.plan.model, "shown" if pair else "none").inc()
        return replace(decision, judged=judged), pair

    def _task(self, place: Place) -> Task:
        settings = self.plan.profile.settings
        card = self.service.cards.get(self.plan.model, self.plan.policy_version, self.reward_model)
        rng = SystemRandom() if self.plan.seed is None else Random(self.plan.seed)
        kind = self._kind()
        # What a law of rewards holds for; a new card begins a new one.
        same = (self.plan.model, self.plan.profile.name, self.plan.policy_version, self.reward_model, kind)
        law = self.service.laws.of((*same, card.created if card else None), card)
        return Task(
            n=place.n,
            resample=self._rounds() if place.resample else 0,
            deadline=self._deadline,
            unjudged_passes=settings.unreadable == "pass",
            options=settings.strategy_options,
            chooser=Chooser(self.plan.selection, self.reward is not None, card, rng),
            max_tokens=self.sampler.body["max_tokens"],
            token_limit=self.plan.token_limit,
            card=card,
            model=self.plan.model,
            kind=kind,
            deliver=self.plan.deliver,
            law=law,
        )

    def _kind(self) -> str:
        """The class of prompts that this one belongs to: endpoint, form, and length by powers of four."""
        form = "tools" if self.request.tools else "form" if self.conversation.response_format else "text"
        return f"{self.request.endpoint}/{form}/{max(0, self.request.body_bytes.bit_length() // 2 * 2)}"

    def followed(self, decision: Decision | None) -> str:
        """The profile's strategy, or what was done instead."""
        return (decision.instead if decision else None) or self.plan.strategy

    @property
    def _strategy(self) -> Strategy:
        """The profile's; at temperature 0 there is one candidate, and best-of-n of it."""
        return strategy("best_of_n" if self.plan.strategy == "greedy" else self.plan.strategy)

    def _rounds(self) -> int:
        """Further waves when none was safe; the same again at temperature 0 would be the same text."""
        return 0 if self.plan.strategy == "greedy" else self.plan.profile.settings.resample

    def _judge(self, place: Place) -> ScorerJudge:
        settings = self.plan.profile.settings
        return ScorerJudge(
            self.conversation,
            steps_of(settings.prune, settings.reward, self._scorers, place.n),
            self.guard,
            self.requirements,
            self._waiting,
            self._deadline,
            settings.unreadable == "pass",
        )

    def _live_guard(self) -> LiveGuard | None:
        settings = self.plan.profile.settings
        if self.guard is None:
            return None
        return LiveGuard(self.guard, settings.stream_guard, settings.stream_window, settings.stream_context)

    def _finish(
        self,
        judged: tuple[Judged, ...],
        delivered: tuple[Judged, ...],
        refused: Refused | None,
        degraded: str | None,
        decision: Decision | None,
        pair: Pair | None = None,
    ) -> Answer:
        if judged and self.plan.route.fallback:
            degraded = degraded or RELEASE_UNAVAILABLE
        completion_tokens = sum(one.candidate.completion_tokens for one in delivered)
        released = decision.released_tokens if decision else None
        answer = Answer(
            id=self.id,
            created=int(self.created),
            plan=self.plan,
            strategy=self.followed(decision),
            judged=judged,
            delivered=delivered,
            refused=refused,
            begun=bool(refused and released),
            degraded=degraded,
            prompt_tokens=self.sampler.prompt_tokens,
            completion_tokens=completion_tokens or released or 0,
            sampled_tokens=self.sampler.sampled_tokens,
            usage_details=self._usage_details(len(delivered)),
            extras=self.sampler.extras,
            reward_model=self.reward_model,
            safety_model=self.guard.version if self.guard else None,
            second_check=self.second_check.version if self.second_check else None,
            noted=tuple(self.prompt_verdict.noted) if self.prompt_verdict else (),
            unjudged_passes=self.plan.profile.settings.unreadable == "pass",
            overhead_ms=milliseconds(time.perf_counter() - self._started - self._waiting.seconds),
            feedback_token=self._feedback_token(),
            propensity=_propensity(decision) if delivered else None,
            kl_bound=decision.outcomes.kl_bound if decision and delivered else None,
            comparison=self._comparison(judged, pair) if pair else None,
        )
        outcome: Outcome = "delivered"
        if refused:
            outcome = "refused_prompt" if refused == "prompt" else "refused_candidates"
        self._record(outcome, answer=answer, decision=decision)
        profile, deciding = self.plan.profile, self.reward_model
        if self.unstored is None:
            self.service.shadow(delivered_of(self.id, self.tenant, profile, deciding, self.conversation, decision))
        return answer

    def _comparison(self, judged: Sequence[Judged], pair: Pair) -> Comparison:
        first, second = (judged[position] for position in pair.shown)
        token = self.service.signer.feedback_token(
            self.id,
            self.user,
            self.created,
            tenant=self.tenant,
            shown=(first.candidate.index, second.candidate.index),
        )
        settings = self.plan.profile.settings.comparison
        return Comparison((first, second), token, settings.against, settings.share, pair.propensity)

    def _feedback_token(self) -> str | None:
        """None where there would be nothing to join the feedback to."""
        if self.unstored is not None:
            return None
        return self.service.signer.feedback_token(self.id, self.user, self.created, tenant=self.tenant)

    def _usage_details(self, delivered: int) -> dict[str, Any]:
        """The worker counts the completions of all its choices together: that is of use where there was one."""
        details = self.sampler.usage_details
        if self.n == delivered == 1:
            return details
        return {key: value for key, value in details.items() if key != "completion_tokens_details"}

    def _record(
        self,
        outcome: Outcome,
        *,
        status: int = 200,
        error: str | None = None,
        answer: Answer | None = None,
        decision: Decision | None = None,
    ) -> None:
        """Count the end of this request and hand its record to the log."""
        self._ended = True
        interaction = interaction_of(self, outcome, self._timings(decision), status, error, answer, decision)
        count_interaction(self.service.metrics, interaction, self.plan.policy)
        if self.unstored is None:
            self.service.log.accept(interaction)
        else:
            self.service.log.privacy.count_unstored(self.unstored)

    def _timings(self, decision: Decision | None) -> Timings:
        total_s = time.perf_counter() - self._started
        return Timings(
            total_ms=milliseconds(total_s),
            guard_ms=milliseconds(self._guard_s),
            queue_ms=milliseconds(self._queue_s),
            first_candidate_ms=since(self.loop_started, self.progress.first_candidate_s),
            sampling_ms=since(self.loop_started, self.progress.last_candidate_s) or 0.0,
            scoring_tail_ms=milliseconds(decision.scoring_tail_s) if decision else 0.0,
            overhead_ms=milliseconds(total_s - self._waiting.seconds),
            second_check_ms=milliseconds(self._second_check_s),
        )


def _propensity(decision: Decision | None) -> float | None:
    if decision is None or decision.outcomes.fallback:
        return None
    return decision.outcomes.candidates[decision.order[0]]


def _prompt_late() -> DeadlineExceeded:
    return DeadlineExceeded("the prompt could not be checked in time", retry_after=5.0)
