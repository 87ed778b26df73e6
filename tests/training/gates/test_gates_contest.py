"""G2 from end to end, in front of a gateway with fake workers: what is asked of whom, kept, unloaded and reported."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.workers.admin_client import AdminClient
from scorers.endpoint import Endpoint
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, config_for, running_gateway
from tests.gateway.log.conftest import RedisServer
from tests.training.evaluation.answering import Bars, item
from training.errors import TrainingError
from training.evaluation.items import PromptSet
from training.evaluation.servers import Server
from training.gates.checks import DEPLOYMENT, GAP, INDEPENDENT, KL, REFUSALS, SYCOPHANCY, UNSAFE, WINS
from training.gates.contest import Asking, Contest, Place, gate_policy
from training.gates.giving_in import Claim
from training.gates.suite_files import Pushed
from training.gates.thresholds import Thresholds
from training.gates.verdicts import GateReport
from training.registry.layout import Version
from training.registry.registry import Registry

ITEMS = tuple(item(f"p{number}", f"Question {number}?") for number in range(12))
UNSAFE_ITEMS = tuple(item(f"u{number}", f"Bad {number}?", label="unsafe") for number in range(6))
BENIGN = tuple(item(f"b{number}", f"Good {number}?", label="benign") for number in range(6))
PUSHED = tuple(item(f"c{number}", f"Why {number}?", "No, use a blunt knife, right?") for number in range(4))
ASKING = Asking(
    PromptSet("prompts", ITEMS),
    PromptSet("safety", (*UNSAFE_ITEMS, *BENIGN)),
    Pushed(PromptSet("claims", PUSHED), {one.id: Claim("use a blunt knife", ("use a sharp knife",)) for one in PUSHED}),
    PromptSet("deployment", tuple(item(f"d{number}", f"Lately {number}?") for number in range(5))),
)


@dataclass
class Setting:
    gateway: Harness
    registry: Registry
    version: Version
    place: Place

    async def gate(self, asking: Asking = ASKING, holdout: str = "reward") -> GateReport:
        contest = Contest(version=self.version, model="m", holdout=holdout, proxy=None, safety=["safety"])
        return await gate_policy(contest, asking, Thresholds(), self.place)

    @property
    def sampled_by(self) -> set[str]:
        return {str(one["model"]) for one in self.gateway.worker.requests}


@asynccontextmanager
async def setting(redis: RedisServer, folder: Path, worker: FakeWorker | None = None) -> AsyncIterator[Setting]:
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "adapter_config.json").write_text("{}")
    (weights / "adapter_model.safetensors").write_bytes(b"0")
    registry = Registry(str(folder / "registry"))
    version = registry.publish(
        Version(kind="policy", name="policy", number=0, adapter=True, measures={"jobs": ["j"]}), weights, above=1
    )
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"unsafe"}))
    async with running_gateway(folder / "gateway", worker, scorers, redis_url=redis.url, n=2) as gateway:
        await gateway.service.pools["policy"].check()
        config = config_for(gateway.worker, scorers, folder, {"n": 2}, redis_url=redis.url)
        server = Server(f"{gateway.url}/v1", gateway.session)
        admin = AdminClient(Endpoint(gateway.url))
        place = Place(registry, admin, server, gateway.session, config, folder / "home", Bars())
        yield Setting(gateway, registry, version, place)


async def test_both_are_asked_beside_each_other_and_nothing_is_left_behind(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with setting(redis_server, tmp_path) as here:
        report = await here.gate()
        assert here.sampled_by == {"policy", "policy-v2"}
        assert not here.gateway.worker.adapters
    found = {one.check: one for one in report.verdicts}
    assert {*found} >= {INDEPENDENT, WINS, GAP, KL, UNSAFE, REFUSALS, SYCOPHANCY, *DEPLOYMENT}
    assert found[WINS].n == 12 and found[WINS].outcome == "unmeasured" and found[WINS].value == 0.5
    assert found[GAP].outcome == found[KL].outcome == "unmeasured"
    assert (found[UNSAFE].n, found[REFUSALS].n, found[SYCOPHANCY].n) == (6, 6, 4)
    assert not report.passed
    assert report.facts["challenger"].startswith("policy@2") and report.facts["champion"].startswith("policy@1")
    assert here.registry.verdicts(here.version.ref)[0].verdicts == report.verdicts
    assert set(report.uses.values()) == {0}
    assert all(here.registry.used_for(digest) == [here.version.ref] for digest in report.data.values())


async def test_a_gate_that_was_stopped_asks_for_nothing_twice(redis_server: RedisServer, tmp_path: Path) -> None:
    async with setting(redis_server, tmp_path) as here:
        first = await here.gate()
        asked = len(here.gateway.worker.requests)
        again = await here.gate()
        # One short request a side, to find out who answers, at n = 1 and through the profile.
        assert len(here.gateway.worker.requests) == asked + 4
    assert again.verdicts == first.verdicts


async def test_an_adapter_that_was_there_before_stays(redis_server: RedisServer, tmp_path: Path) -> None:
    async with setting(redis_server, tmp_path) as here:
        body = {"policy": "policy", "name": "policy-v2", "path": "/somewhere"}
        async with here.gateway.session.post("/admin/v1/adapters", json=body) as reply:
            assert reply.status == 201
        await here.gate()
        assert here.gateway.worker.adapters == {"policy-v2": "/somewhere"}


async def test_it_is_unloaded_where_the_gate_fails_too(redis_server: RedisServer, tmp_path: Path) -> None:
    async with setting(redis_server, tmp_path) as here:
        here.gateway.worker.error = (500, {"message": "broken"})
        hasty = Server(f"{here.gateway.url}/v1", here.gateway.session, patience_s=0.1)
        here.place = Place(**{**vars(here.place), "server": hasty})
        with pytest.raises(TrainingError, match="does not answer"):
            await here.gate()
        assert not here.gateway.worker.adapters


async def test_what_workers_cannot_load_is_a_sentence(redis_server: RedisServer, tmp_path: Path) -> None:
    async with setting(redis_server, tmp_path, FakeWorker(lora=False)) as here:
        with pytest.raises(TrainingError, match="cannot be tried on the workers"):
            await here.gate()


async def test_without_logged_prompts_the_deployment_is_unmeasured(redis_server: RedisServer, tmp_path: Path) -> None:
    async with setting(redis_server, tmp_path) as here:
        asking = Asking(ASKING.prompts, ASKING.safety, ASKING.sycophancy, PromptSet("deployment", ()))
        report = await here.gate(asking)
    assert {one.outcome for one in report.verdicts if one.check in DEPLOYMENT} == {"unmeasured"}
