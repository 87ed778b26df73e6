"""The names of all checks, as reports have them and `waived` in a file of thresholds names them."""

from training.gates.verdicts import Gate

G0: Gate = "G0 data"
WEIGHT, SHARE = "weight of one person", "share of one person"
BANNED, PHRASES, SCOPE, PERSONAL = "banned people", "pushed phrases", "training scope", "personal data"

G1: Gate = "G1 reward model"
AGREEMENT, NOT_WORSE, TREND = "agreement with people", "not worse than the serving model", "agreement rises with margin"
CALIBRATION, EQUAL_AGREEMENT, BENCH = "calibration", "agreement at equal length", "RewardBench 2"

G2: Gate = "G2 policy"
INDEPENDENT = "holdout is independent"
WINS, EQUAL_WINS, GAP = "win rate", "win rate at equal length", "proxy-holdout gap"
KL = "KL to the anchor"
UNSAFE, REFUSALS, SYCOPHANCY = "unsafe answers delivered", "harmless prompts refused", "giving in to a wrong claim"
DEPLOYED_UNSAFE, DEPLOYED_REFUSALS = "deployment: unsafe candidates", "deployment: refusals"
DEPLOYED_FAILURES = "deployment: failed or degraded"
DEPLOYED_LONGER, DEPLOYED_SHORTER = "deployment: longer", "deployment: shorter"
DEPLOYMENT = (DEPLOYED_UNSAFE, DEPLOYED_REFUSALS, DEPLOYED_FAILURES, DEPLOYED_LONGER, DEPLOYED_SHORTER)

CHECKS: dict[Gate, tuple[str, ...]] = {
    G0: (WEIGHT, SHARE, BANNED, PHRASES, SCOPE, PERSONAL),
    G1: (AGREEMENT, NOT_WORSE, TREND, CALIBRATION, EQUAL_AGREEMENT, BENCH),
    G2: (INDEPENDENT, WINS, EQUAL_WINS, GAP, KL, UNSAFE, REFUSALS, SYCOPHANCY, *DEPLOYMENT),
}
KNOWN = frozenset(name for names in CHECKS.values() for name in names)
