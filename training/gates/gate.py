"""The gates of a snapshot and of a reward model: from what is to be decided about to a report in the registry.

    gate_data     G0  a snapshot        its rows, read once; what decides is in `snapshots`
    gate_reward   G1  a reward model    scored here, on the test split of a snapshot; what decides is in `agreement`

`contest.gate_policy` is G2.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from gateway.log.privacy.redactor import Redactor
from training.data.layout import Snapshot
from training.gates import snapshots
from training.gates.reporting import Wear, kept_report
from training.gates.thresholds import Thresholds
from training.gates.verdicts import GateReport
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # torch, scipy: seconds

Advance = Callable[[int], None]


def gate_data(
    snapshot: Snapshot,
    thresholds: Thresholds,
    registry: Registry,
    *,
    redactor: Redactor,
    suspects: Collection[str] | None = None,
    reference: Path | None = None,
) -> GateReport:
    """G0. suspects: hashed users whom the defence before training found; None: nobody looked.

    reference: the folder of a reward model that no vote has taught, by which the snapshot's own votes are looked at.
    """
    ref, limits = f"snapshot:{snapshot.manifest.id}", thresholds.data
    found = snapshots.weights_of(snapshot.manifest.scope, snapshots.sides(snapshot))
    facts = None
    if reference is not None:
        from training.defence.defend import defend
        from training.defence.reference import rewarded
        from training.defence.settings import DefenceSettings
        from training.reward.scoring import LocalReward

        facts = defend(rewarded(snapshots.votes(snapshot), LocalReward(reference)), DefenceSettings()).facts
    # It is known without error, or drawn anew for each snapshot: nothing wears.
    wear = Wear(registry, thresholds, ref)
    read, there_are = snapshots.texts(snapshot, limits.personal_texts)
    verdicts = [
        *snapshots.concentration(found, limits),
        *snapshots.poisoning(facts, suspects, found, limits),
        snapshots.scope(snapshot.manifest.scope, found),
        snapshots.personal(read, there_are, redactor, limits, thresholds.alpha),
    ]
    return kept_report(ref, verdicts, thresholds, wear, registry, {"rows": found.rows, "people": len(found.users)})


def gate_reward(
    ref: str,
    model: Path,
    serving: Path | None,
    snapshot: Snapshot,
    thresholds: Thresholds,
    registry: Registry,
    *,
    bench: Path | None = None,
    advance: Advance | None = None,
) -> GateReport:
    """G1, on the snapshot's test split. ref: of the version. model, serving: folders. bench: RewardBench 2's layout."""
    from training.gates.agreement import reward_checks
    from training.reward.reporting import bench as measure_bench
    from training.reward.samples import read_rows, score_rows

    wear = Wear(registry, thresholds, ref)
    alpha = wear.alpha("test split", f"{snapshot.manifest.id}:test")
    members = [model] if serving is None else [model, serving]
    scored = score_rows(read_rows(snapshot, "test"), members, advance)
    measured = None if bench is None else measure_bench(model, bench, advance)
    verdicts = reward_checks(
        scored.pairs, serving is not None, measured, thresholds.reward, alpha, scored.labels, _scale_of(model)
    )
    return kept_report(ref, verdicts, thresholds, wear, registry, {"snapshot": snapshot.manifest.id, **scored.left_out})


def _scale_of(model: Path) -> tuple[float, float] | None:
    """a and b of a model of ours that has learnt from thumbs."""
    from training.reward.card import label_scale
    from training.reward.versions import CARD, read_card

    if not (model / CARD).is_file():
        return None
    a, b = label_scale(read_card(model))
    return None if a is None or b is None else (a, b)
