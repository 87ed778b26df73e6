"""A rolling restart: worker after worker gets other full weights, while the others answer.

    drain -> nothing runs on it -> the operator's command -> it says that it has the weights -> undrain -> the next

A worker serves its weights under two names, the policy's and `policy-vN` (vllm serve WEIGHTS --served-model-name policy
policy-vN), and answers for that version alone. It stops at the first failure: that worker stays drained. Started
again, it goes on with those that do not have the weights yet.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway.errors import StartError
from gateway.workers.admin_client import AdminClient

WORKERS = "/admin/v1/workers"
LOOK_S = 1.0

Run = Callable[[str, Mapping[str, str]], int]
"""A shell command with more of an environment; its exit code."""


@dataclass(frozen=True, slots=True)
class Weights:
    """release: its number. served_as: policy-vN. folder: where they are."""

    release: int
    policy: str
    served_as: str
    folder: str


def run_shell(command: str, environment: Mapping[str, str]) -> int:
    return subprocess.run(command, shell=True, env={**os.environ, **environment}, check=False).returncode


class Rolling:
    """drained_s, back_s: how long a worker may take to finish what it has, and to come back."""

    def __init__(
        self,
        gateway: AdminClient,
        weights: Weights,
        command: str,
        *,
        drained_s: float,
        back_s: float,
        told: Callable[[str], None],
        run: Run = run_shell,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._weights = weights
        self._command = command
        self._drained_s = drained_s
        self._back_s = back_s
        self._told = told
        self._run = run
        self._sleep = sleep
        self._clock = clock

    def workers(self) -> list[dict[str, Any]]:
        """The policy's, as the gateway sees them. Raises StartError."""
        found = self._gateway.call("GET", WORKERS)["data"]
        return [one for one in found if one["policy"] == self._weights.policy]

    def roll(self, wanted: int) -> int:
        """Until so many workers have the weights. Returns how many were restarted. Raises StartError, which says how
        to go back."""
        workers = self.workers()
        missing = wanted - sum(self._has(one) for one in workers)
        chosen = [one for one in workers if not self._has(one) and one["state"] == "up"][: max(0, missing)]
        if len(chosen) < missing:
            raise StartError(
                f"{missing} more workers of {self._weights.policy} should get {self._weights.served_as}, and "
                f"{len(chosen)} are up without it. Bring the others up first: bestow workers list"
            )
        for number, one in enumerate(chosen, 1):
            self._told(f"worker {one['id']} ({one['url']}), {number} of {len(chosen)}")
            self._restart(one)
        return len(chosen)

    def _restart(self, worker: Mapping[str, Any]) -> None:
        weights, identifier = self._weights, str(worker["id"])
        reason = f"release {weights.release}: rolling restart"
        self._gateway.call("POST", f"{WORKERS}/{quote(identifier, safe='')}/drain", {"reason": reason})
        self._told("  drained; it finishes what it has")
        if not self._until(identifier, _idle, self._drained_s):
            raise StartError(
                f"The worker {identifier} was not done within {self._drained_s:g} s, and was not restarted. It gets "
                f"nothing new: wait and start this again, or take it back: bestow workers undrain {identifier}"
            )
        environment = {"WORKER_URL": worker["url"], "WEIGHTS": weights.folder, "SERVED_AS": weights.served_as}
        self._told("  idle; the command runs")
        if code := self._run(self._command, environment):
            raise StartError(f"The command ended with {code} for the worker {identifier}. {self._back(identifier)}")
        self._told(f"  restarted; until it serves {weights.served_as}")
        if not self._until(identifier, self._has, self._back_s):
            raise StartError(
                f"The worker {identifier} did not serve {weights.served_as} within {self._back_s:g} s. "
                f"{self._back(identifier)}"
            )
        self._gateway.call("POST", f"{WORKERS}/{quote(identifier, safe='')}/undrain", {"reason": reason})
        self._told("  back")

    def _back(self, identifier: str) -> str:
        return (
            "It is drained, and the others answer. To go back, start it with the weights that it had and give it "
            f"requests again: bestow workers undrain {identifier}. To go on, start this again then."
        )

    def _until(self, identifier: str, fits: Callable[[Mapping[str, Any]], bool], within_s: float) -> bool:
        deadline = self._clock() + within_s
        while True:
            if any(one["id"] == identifier and fits(one) for one in self.workers()):
                return True
            if self._clock() >= deadline:
                return False
            self._sleep(LOOK_S)

    def _has(self, worker: Mapping[str, Any]) -> bool:
        # What it says while it is down is what it was.
        return worker["alias"] == self._weights.served_as and not worker["reason"]


def _idle(worker: Mapping[str, Any]) -> bool:
    """Of this gateway's requests, and by its own count of everybody's."""
    load = worker["load"]
    return not load["sequences"] and not load["running"] and not load["waiting"]


def wanted_workers(served_as: str, one: Mapping[str, Any], count: int) -> int:
    """How many of a policy's workers should have the weights now, by what the admin API says of the model's release.

    A champion without a challenger gets all; a challenger those that its share of the users needs; what is not on its
    way yet the first. As long as anybody gets other weights, one worker keeps those.
    """
    challenger: Mapping[str, Any] | None = one["challenger"]
    if challenger is None:
        return count if one["champion"]["served_as"] == served_as else min(1, count - 1)
    share = challenger["share"] if challenger["bundle"]["served_as"] == served_as else 0.0
    return min(max(1, -int(-share * count // 1)), count - 1)


def summary(workers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['id']} {one['alias'] or 'its own'}" for one in workers) or "none"
