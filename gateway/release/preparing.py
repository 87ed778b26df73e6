"""A release's scorer and weights, brought to where they are needed before anybody gets them, and taken away after.

    prepare    the scorer onto the scorer server, the adapter onto every worker, or on none; done twice is done once
    lacking    who does not have the weights, by each worker's own /v1/models
    absent     what should be loaded, and is not known to be
    surplus    what this brought, nobody is answered with, and no rollback would need

A worker that starts anew gets the adapter before it takes requests (`workers/health.py`). Full weights come by
restarting workers one by one (`bestow release roll`), and a worker that has them answers for nothing else.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.control.control import Control
from gateway.control.state import ControlState
from gateway.errors import ApiError, Conflict, Unavailable
from gateway.release.moves import loaded
from gateway.release.state import Bundle, ReleaseState
from gateway.shared.note import Note
from gateway.workers.adapters import AdapterNotLoaded
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_state import FleetState
from gateway.workers.pool import WorkerPool

# Whoever is named so in the fleet and among the scorers was brought by a release, and goes with it.
BY = "release"


class NotYet(Unavailable):
    """What is missing comes by itself: it is being loaded, or workers are being restarted."""

    code = "release_not_ready"


async def prepare(fleet: Fleet, control: Control, policy: str, bundle: Bundle, made: Note) -> None:
    """All workers of the policy, and the scorer server, have what the release needs when this returns.

    Raises NotYet, and ApiError: see `lasting`.
    """
    if bundle.reward and bundle.scorer:
        live = await control.put_scorer(bundle.reward, bundle.scorer, made)
        if not live.proven:
            raise NotYet(f"the scorer {bundle.reward} is being loaded")
    if not bundle.served_as:
        return
    if bundle.path:
        await fleet.load_adapter(policy, bundle.served_as, bundle.path, made)
    pool = fleet.pools[policy]
    await pool.check()
    if missing := lacking(pool, bundle):
        raise NotYet(missing)


def lasting(error: ApiError) -> bool:
    """Whether it would fail the same way the next time. A worker that refuses what it was given may have been ending
    just then, so that is tried again a few times (`controller.TRIES`)."""
    return error.retry_after is None and not isinstance(error, Unavailable | AdapterNotLoaded)


def lacking(pool: WorkerPool, bundle: Bundle, share: float = 0.0) -> str:
    """A sentence that says which workers do not have its weights and should; empty: none. share: of users that get it.

    An adapter must be on all that answer: one that is down gets it before it comes back. Full weights take a worker
    whole, so that a share of them must have the challenger's, and one at least the weights that others still get.
    """
    name = bundle.served_as
    if name is None:
        return ""
    present = [worker for worker in pool.workers if not worker.leaving and (worker.up or worker.unready)]
    if not present:
        return f"no worker of {pool.served_name} is up"
    without = [worker.id for worker in present if worker.unready or name not in worker.models]
    if bundle.path is not None:
        return f"{len(without)} of {len(present)} workers lack {name}: {', '.join(without)}" if without else ""
    needed = max(1, min(len(present) - 1, math.ceil(share * len(present))))
    if len(present) - len(without) < needed:
        return (
            f"{len(present) - len(without)} of {len(present)} workers serve {name}, and {needed} should: "
            f"bestow release roll {bundle.release} --workers {needed}"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Surplus:
    """adapters: (policy, name). scorers: names."""

    adapters: tuple[tuple[str, str], ...] = ()
    scorers: tuple[str, ...] = ()


def surplus(
    state: ReleaseState,
    fleet: FleetState,
    control: ControlState,
    policies: Mapping[str, str],
    profiled: Collection[str],
) -> Surplus:
    """What may be unloaded. policies: of each model. profiled: scorers that profiles name, which stay."""
    kept = [(policies.get(model), bundle) for model, one in state.models.items() for bundle in loaded(one)]
    names = {(policy, bundle.served_as) for policy, bundle in kept}
    scorers = {bundle.reward for _, bundle in kept} | set(profiled)
    return Surplus(
        tuple(
            (policy, name)
            for policy, one in fleet.policies.items()
            for name, adapter in one.adapters.items()
            if adapter.note.by == BY and (policy, name) not in names
        ),
        tuple(name for name, live in control.scorers.items() if live.note.by == BY and name not in scorers),
    )


def absent(
    state: ReleaseState, fleet: FleetState, control: ControlState, policies: Mapping[str, str]
) -> list[tuple[str, Bundle]]:
    """What should be loaded and is not known to be, by policy: what a second rollback goes back to, what Redis lost.

    Not what is still being prepared, and no full weights, which nobody can load.
    """
    found = []
    for model, one in state.models.items():
        policy = policies.get(model)
        preparing = one.canary.bundle if one.canary and one.canary.phase == "preparing" else None
        for bundle in loaded(one):
            weights = policy is not None and bundle.path and bundle.served_as not in fleet.of(policy).adapters
            scorer = bundle.scorer and bundle.reward not in control.scorers
            if policy is not None and bundle != preparing and (weights or scorer):
                found.append((policy, bundle))
    return found


def must_not_serve(state: ReleaseState, what: str, *, served_as: str | None = None, reward: str | None = None) -> None:
    """Before an operator takes an adapter or a scorer away. Raises Conflict where a release is served with it."""
    for model, one in state.models.items():
        for bundle in loaded(one):
            if (served_as and bundle.served_as == served_as) or (reward and bundle.reward == reward):
                raise Conflict(
                    f"{what} belongs to the release {bundle.release} of {model}, which serves, is on its way, or is "
                    "what a rollback goes back to",
                    code="release_needs_it",
                )
