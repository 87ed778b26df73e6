"""A rolling restart against what a gateway says of its workers, which a test scripts."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.errors import StartError
from gateway.release.rolling import Rolling, Weights, wanted_workers

WEIGHTS = Weights(7, "p", "p-v7", "/weights/7")


class Fleet:
    """Workers as the admin API shows them. busy: looks until each is idle. code: what the command ends with."""

    def __init__(self, count: int, *, busy: int = 0, code: int = 0, comes_back: bool = True) -> None:
        self.alias: dict[str, str | None] = {f"w-{number}": None for number in range(count)}
        self.drained: set[str] = set()
        self.busy = dict.fromkeys(self.alias, busy)
        self.code, self.comes_back = code, comes_back
        self.ran: list[dict[str, str]] = []
        self.least = count

    def call(self, method: str, path: str, body: Any = None) -> Any:
        if method == "GET":
            return {"data": [self.shown(name) for name in self.alias]}
        name, what = path.split("/")[-2:]
        (self.drained.add if what == "drain" else self.drained.discard)(name)
        self.least = min(self.least, len(self.alias) - len(self.drained))
        return self.shown(name)

    def shown(self, name: str) -> dict[str, Any]:
        if name in self.drained and self.busy[name]:
            self.busy[name] -= 1
        load = {"sequences": 0, "running": float(self.busy[name]), "waiting": 0.0}
        state = "draining" if name in self.drained else "up"
        return {"id": name, "policy": "p", "url": f"http://{name}", "state": state, "reason": None,
                "alias": self.alias[name], "load": load}  # fmt: skip

    def run(self, command: str, environment: Mapping[str, str]) -> int:
        name = environment["WORKER_URL"].removeprefix("http://")
        assert name in self.drained and not self.busy[name], "it still answers"
        self.ran.append({"command": command, **environment})
        if not self.code and self.comes_back:
            self.alias[name] = environment["SERVED_AS"]
        return self.code


def rolling(fleet: Any) -> Rolling:
    times = iter(range(10_000))
    return Rolling(
        fleet,
        WEIGHTS,
        "restart",
        drained_s=30.0,
        back_s=30.0,
        told=lambda line: None,
        run=fleet.run,
        sleep=lambda s: None,
        clock=lambda: float(next(times)),
    )


def test_one_worker_after_the_other_is_drained_restarted_and_brought_back() -> None:
    fleet = Fleet(3, busy=5)
    assert rolling(fleet).roll(2) == 2
    assert list(fleet.alias.values()) == ["p-v7", "p-v7", None] and not fleet.drained and fleet.least == 2
    assert fleet.ran[0] == {
        "command": "restart", "WORKER_URL": "http://w-0", "WEIGHTS": "/weights/7", "SERVED_AS": "p-v7",
    }  # fmt: skip
    assert rolling(fleet).roll(3) == 1 and len(fleet.ran) == 3
    assert rolling(fleet).roll(3) == 0


@pytest.mark.parametrize(
    ("fleet", "what"),
    [
        (Fleet(3, code=3), "The command ended with 3 for the worker w-0.*To go back.*undrain w-0"),
        (Fleet(3, comes_back=False), "did not serve p-v7 within 30 s.*To go back.*undrain w-0"),
        (Fleet(3, busy=1000), "was not done within 30 s, and was not restarted"),
    ],
)
def test_it_stops_at_the_first_failure_and_says_how_to_go_back(fleet: Fleet, what: str) -> None:
    with pytest.raises(StartError, match=what):
        rolling(fleet).roll(3)
    assert fleet.drained == {"w-0"} and fleet.least == 2


def test_it_begins_nothing_that_it_cannot_finish() -> None:
    fleet = Fleet(2)
    fleet.drained.add("w-1")
    with pytest.raises(StartError, match="2 more workers of p should get p-v7, and 1 are up"):
        rolling(fleet).roll(2)
    assert not fleet.ran


def test_as_many_workers_as_its_users_need_and_one_for_the_others() -> None:
    def one(share: float | None, champion: str | None = None, served_as: str = "p-v7") -> dict[str, Any]:
        challenger = None if share is None else {"share": share, "bundle": {"served_as": served_as}}
        return {"challenger": challenger, "champion": {"served_as": champion}}

    shares = [wanted_workers("p-v7", one(share), 8) for share in (0.0, 0.01, 0.25, 0.26, 0.95)]
    assert shares == [1, 1, 2, 3, 7]
    assert wanted_workers("p-v7", one(None), 8) == 1 and wanted_workers("p-v7", one(None, "p-v7"), 8) == 8
    assert wanted_workers("p-v7", one(None), 1) == 0 and wanted_workers("p-v7", one(0.5, served_as="p-v8"), 4) == 1
