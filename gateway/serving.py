"""One chat request from plan to answer: guard, decoding, choice; and its record in the log, however it ends.

service.begin(request)      -> Exchange     control: which model, profile and bounds (400 and 404 from here)
exchange.run()              -> Answer       prompt fits? prompt safe? strategy -> the best safe candidates
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.api.protocol import ChatRequest
from gateway.config import Config
from gateway.control.plan import Plan, make_plan
from gateway.control.profiles import ModelDirectory, ProfileStore
from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.candidate import Judged
from gateway.decoding.judge import ScorerJudge
from gateway.decoding.sampler import PoolSampler
from gateway.decoding.strategy import Decision, Progress, Task
from gateway.errors import ApiError, ContextTooLong, DeadlineExceeded, GuardUnavailable, WorkerError
from gateway.guard.guard import Guard
from gateway.guard.verdict import Thresholds
from gateway.log.records import Interaction, Outcome, Timings, Usage, Verdict
from gateway.log.writer import RecordLog
from gateway.recording import candidate_records, count_interaction, milliseconds, since
from gateway.scoring import ScorerHandle
from gateway.signing import Signer
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.waiting import WaitClock
from gateway.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

Refused = Literal["prompt", "candidates"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: `delivered` candidates, best first, or a refusal where `refused` says what was unsafe."""

    id: str
    created: int
    plan: Plan
    judged: tuple[Judged, ...]
    delivered: tuple[Judged, ...]
    refused: Refused | None
    degraded: str | None
    prompt_tokens: int
    sampled_tokens: int
    reward_model: str | None
    safety_model: str | None
    unjudged_passes: bool
    overhead_ms: float
    feedback_token: str


class ChatService:
    """Everything that answering needs; made once a process."""

    def __init__(
        self,
        config: Config,
        pools: Mapping[str, WorkerPool],
        scorers: Mapping[str, ScorerHandle],
        profiles: ProfileStore,
        models: ModelDirectory,
        log: RecordLog,
        signer: Signer,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.pools = pools
        self.scorers = scorers
        self.profiles = profiles
        self.models = models
        self.log = log
        self.signer = signer
        self.metrics = metrics
        self.now = now
        self._policy_versions = {name: policy.version for name, policy in config.policies.items()}

    def begin(self, request: ChatRequest, completion_id: str) -> "Exchange":
        """Raises ModelNotFound or BadRequest; nothing was spent or logged then."""
        plan = make_plan(
            request, self.models, self.profiles, self._policy_versions, self.config.gateway.request_timeout_s
        )
        return Exchange(self, request, plan, completion_id)


class Exchange:
    """One request being answered. `progress` tells how far it is."""

    def __init__(self, service: ChatService, request: ChatRequest, plan: Plan, completion_id: str) -> None:
        self.service = service
        self.request = request
        self.plan = plan
        self.id = completion_id
        self.created = service.now()
        self.progress = Progress()
        self.user = service.signer.hash_user(request.user)
        self._started = time.perf_counter()
        self._loop_started = asyncio.get_running_loop().time()
        self._deadline = self._loop_started + plan.budget_s
        self._waiting = WaitClock()
        self._prompt_verdict: Verdict | None = None
        self._guard_s = 0.0
        settings = plan.profile.settings
        self.reward = service.scorers[settings.reward] if settings.reward else None
        safety = service.scorers[settings.safety] if settings.safety else None
        thresholds = Thresholds(settings.safety_threshold, settings.category_thresholds)
        self.guard = Guard(safety, thresholds) if safety else None
        self._sampler = PoolSampler(service.pools[plan.policy], dict(plan.sampling), plan.seed, self._waiting)

    @property
    def reward_model(self) -> str | None:
        """Version of the reward model, name@N."""
        return self.reward.version if self.reward else None

    async def run(self) -> Answer:
        """The answer. Raises ApiError. The interaction is logged before it returns or raises, cancelled ones too."""
        with self.service.metrics.in_flight.track_inprogress():
            try:
                answer = await self._answer()
            except asyncio.CancelledError:
                self._record("cancelled", status=499, error="the client went away")
                raise
            except ApiError as error:
                if isinstance(error, WorkerError):
                    self.service.metrics.worker_failures.labels(self.plan.policy, error.code).inc()
                self._record("failed", status=error.status, error=error.message)
                raise
            except Exception as error:
                logger.exception("request %s failed", self.id)
                self._record("failed", status=500, error=type(error).__name__)
                raise ApiError("the gateway failed on this request; its log has the reason") from error
        return answer

    async def _answer(self) -> Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._fit_into_context()
                degraded = await self._check_prompt()
        except TimeoutError:
            raise DeadlineExceeded("the prompt could not be checked in time", retry_after=5.0) from None
        if self._prompt_verdict and self._prompt_verdict.flagged:
            return self._finish((), (), "prompt", None, None)
        decision = await best_of_n(self._task(), self._sampler, self._judge(), self.progress)
        delivered = tuple(decision.judged[position] for position in decision.order[: self.plan.deliver])
        refused: Refused | None = None if delivered else "candidates"
        degraded = degraded or decision.degraded
        if delivered and len(delivered) < self.plan.deliver:
            degraded = degraded or "fewer_safe"
        return self._finish(decision.judged, delivered, refused, degraded, decision)

    async def _fit_into_context(self) -> None:
        """Refuse a prompt that is too long before any model reads it; give a default limit what room there is.

        A token is at least a byte of the body, so most requests need no count. Others cost one call to /tokenize.
        """
        limit = self._sampler.pool.max_model_len
        max_tokens = self.plan.max_tokens
        if limit is None or self.request.body_bytes + max_tokens <= limit:
            self._sampler.body["max_tokens"] = max_tokens
            return
        try:
            with self._waiting:
                count = await self._sampler.pool.count_tokens(self.plan.sampling)
        except WorkerError:
            # A server without /tokenize: it will say by itself what does not fit.
            self._sampler.body["max_tokens"] = max_tokens
            return
        wanted = max_tokens if self.plan.max_tokens_given else 1
        if count + wanted > limit:
            raise ContextTooLong(
                f"This model's context is {limit} tokens. The request needs {count + wanted}: {count} in the messages, "
                f"{wanted} for the answer. Shorten the messages or lower max_tokens.",
                param="messages",
            )
        self._sampler.body["max_tokens"] = min(max_tokens, limit - count)

    async def _check_prompt(self) -> str | None:
        """Ask the guard about the prompt. Returns a reason for `degraded`. Raises GuardUnavailable."""
        if self.guard is None:
            return None
        begun = time.perf_counter()
        with self._waiting:
            verdict = await self.guard.check_prompt(self.request.messages, self.request.tools)
        self._guard_s = time.perf_counter() - begun
        self.service.metrics.guard_seconds.observe(self._guard_s)
        self._prompt_verdict = verdict
        if verdict.error is None:
            return None
        if self.plan.profile.settings.unreadable == "pass":
            return "guard_unavailable"
        raise GuardUnavailable(f"The safety check cannot answer for this prompt: {verdict.error}", retry_after=2.0)

    def _task(self) -> Task:
        settings = self.plan.profile.settings
        return Task(
            n=self.plan.n,
            # The same again at temperature 0 would be the same text.
            resample=0 if self.plan.strategy == "greedy" else settings.resample,
            deadline=self._deadline,
            unjudged_passes=settings.unreadable == "pass",
        )

    def _judge(self) -> ScorerJudge:
        return ScorerJudge(self.request.messages, self.request.tools, self.reward, self.guard, self._waiting)

    def _finish(
        self,
        judged: tuple[Judged, ...],
        delivered: tuple[Judged, ...],
        refused: Refused | None,
        degraded: str | None,
        decision: Decision | None,
    ) -> Answer:
        answer = Answer(
            id=self.id,
            created=int(self.created),
            plan=self.plan,
            judged=judged,
            delivered=delivered,
            refused=refused,
            degraded=degraded,
            prompt_tokens=self._sampler.prompt_tokens,
            sampled_tokens=self._sampler.sampled_tokens,
            reward_model=self.reward_model,
            safety_model=self.guard.scorer.version if self.guard else None,
            unjudged_passes=self.plan.profile.settings.unreadable == "pass",
            overhead_ms=milliseconds(time.perf_counter() - self._started - self._waiting.seconds),
            feedback_token=self.service.signer.feedback_token(self.id, self.user, self.created),
        )
        outcome: Outcome = "delivered"
        if refused:
            outcome = "refused_prompt" if refused == "prompt" else "refused_candidates"
        self._record(outcome, answer=answer, decision=decision)
        return answer

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
        judged = decision.judged if decision else tuple(self.progress.judged)
        delivered = [judged.index(one) for one in answer.delivered] if answer else []
        candidates = candidate_records(
            judged,
            decision.propensities if decision else None,
            self._loop_started,
            keep_token_ids=self.service.config.log.token_ids,
        )
        parameters = {key: value for key, value in self._sampler.body.items() if key != "messages"}
        interaction = Interaction(
            id=self.id,
            created=self.created,
            model=self.plan.model,
            profile=self.plan.profile.version,
            policy=self.plan.policy_version,
            strategy=self.plan.strategy,
            outcome=outcome,
            messages=self.request.messages,
            parameters=parameters,
            candidates=candidates,
            reward_model=self.reward_model,
            safety_model=self.guard.scorer.version if self.guard else None,
            prompt_verdict=self._prompt_verdict,
            chosen=delivered[0] if delivered else None,
            delivered=delivered,
            n=self.plan.n,
            seed=self.plan.seed,
            stream=self.request.stream,
            degraded=answer.degraded if answer else None,
            error=error,
            status=status,
            user=self.user,
            usage=Usage(
                prompt_tokens=self._sampler.prompt_tokens,
                completion_tokens=sum(one.candidate.completion_tokens for one in answer.delivered) if answer else 0,
                sampled_tokens=self._sampler.sampled_tokens,
            ),
            timings=self._timings(decision),
        )
        count_interaction(self.service.metrics, interaction, self.plan.policy)
        self.service.log.accept(interaction)

    def _timings(self, decision: Decision | None) -> Timings:
        total_s = time.perf_counter() - self._started
        return Timings(
            total_ms=milliseconds(total_s),
            guard_ms=milliseconds(self._guard_s),
            first_candidate_ms=since(self._loop_started, self.progress.first_candidate_s),
            sampling_ms=since(self._loop_started, self.progress.last_candidate_s) or 0.0,
            scoring_tail_ms=milliseconds(decision.scoring_tail_s) if decision else 0.0,
            overhead_ms=milliseconds(total_s - self._waiting.seconds),
        )
