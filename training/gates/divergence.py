"""G2: how far the challenger is from the anchor, in nats of a whole answer. Pure.

The anchor is the configuration's own weights, whatever versions lie between: measured from one version to the next, the
distance of many rounds is never seen (a trial went 2.8, 6.3, 7.3 nats). `training.policy.kl` measures it.
"""

from training.gates.bounds import Bound
from training.gates.checks import G2, KL
from training.gates.saying import held, unmeasured
from training.gates.thresholds import PolicyThresholds
from training.gates.verdicts import Verdict


def divergence(found: Bound | None, limits: PolicyThresholds, alpha: float) -> Verdict:
    """found: nats per answer; None where it was not measured."""
    if found is None:
        return unmeasured(G2, KL, "Name the anchor's weights with --anchor, so that the distance can be measured.")
    return held(
        G2,
        KL,
        found,
        "below",
        limits.kl,
        alpha,
        margin=limits.kl,
        what="The distance from the anchor",
        of="answers",
        tell=lambda value: f"{value:.2f} nats",
    )
