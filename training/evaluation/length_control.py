"""The win rate that there would be if both answers were equally long. Pure.

Judges and reward models like long answers, so a policy that writes more wins more. Dubois, Galambosi, Liang and
Hashimoto (2024, "Length-Controlled AlpacaEval", arXiv:2404.04475) fit a logistic regression of the verdicts,

    logit P(A wins on x) = theta + phi tanh(d_x / sd(d))            d_x = len(A's answer) - len(B's), in characters

and read off P at d = 0: sigmoid(theta). theta is their model term (theta_A - theta_B). Their third term, the prompt's
difficulty, is estimated from many models' results together; with two it cannot be told from theta and is left out.

Verdicts may be probabilities and ties: the loss is the cross-entropy. phi has a ridge of phi^2 / 2, a normal prior of
deviation 1 where theirs is an L1 norm found by cross-validation: its weight is that of one prompt, whatever their
number. theta has none, so with equal lengths sigmoid(theta) is the plain win rate. The interval is the cluster
sandwich's (H^-1 S H^-1 with H the penalised Hessian and S from scores summed by prompt), made on the logit scale.
"""

import math
from collections.abc import Hashable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.evaluation.intervals import Estimate, share

# ruff: noqa: PLC0415  # scipy: 0.5 s

RIDGE = 1.0
# With so few prompts two parameters are noise.
LEAST_PROMPTS = 10

Floats = NDArray[np.float64]


class LengthControlled(msgspec.Struct, frozen=True):
    """win_rate: at equal lengths. slope: phi, in logits; above 0: the longer answer wins more often."""

    win_rate: Estimate
    slope: float


def length_controlled(
    wins: Sequence[float], longer: Sequence[float], clusters: Sequence[Hashable], alpha: float = 0.05
) -> LengthControlled | str:
    """Or why there is none. wins: A's, in [0, 1]. longer: by how many characters A's answer is.

    alpha: of both sides of the interval together.
    """
    from scipy import optimize, special, stats

    y = np.asarray(wins, dtype=np.float64)
    groups = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    if len(groups) < LEAST_PROMPTS:
        return f"{len(groups)} prompts are too few: it takes {LEAST_PROMPTS}"
    feature = _standardised(np.asarray(longer, dtype=np.float64))
    if feature is None:
        return "A's answers are all longer than B's by the same, so length cannot be told from what else differs"
    if y.mean() in (0.0, 1.0):
        # theta runs to infinity; the share's interval is Wilson's.
        return LengthControlled(share(wins, clusters, alpha), 0.0)
    x = np.column_stack([np.ones_like(y), feature])
    penalty = np.array([0.0, RIDGE])

    def loss(beta: Floats) -> float:
        logits = x @ beta
        entropy = np.logaddexp(0.0, logits) - y * logits
        return float(entropy.sum() + (penalty * beta**2).sum() / 2)

    def gradient(beta: Floats) -> Floats:
        found: Floats = x.T @ (special.expit(x @ beta) - y) + penalty * beta
        return found

    def hessian(beta: Floats) -> Floats:
        p = special.expit(x @ beta)
        found: Floats = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        return found

    start = np.array([special.logit(y.mean()), 0.0])
    beta = optimize.minimize(
        loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-8 * len(y)}
    ).x
    scores = np.zeros((len(groups), 2))
    np.add.at(scores, [groups[cluster] for cluster in clusters], x * (special.expit(x @ beta) - y)[:, None])
    inverse = np.linalg.inv(hessian(beta))
    count = len(groups)
    covariance = inverse @ (scores.T @ scores) @ inverse * count / (count - 1)
    half = float(stats.t.ppf(1 - alpha / 2, count - 1)) * math.sqrt(covariance[0, 0])
    value, low, high = (float(special.expit(beta[0] + shift)) for shift in (0.0, -half, half))
    return LengthControlled(Estimate(value, low, high, count, len(y)), float(beta[1]))


def _standardised(longer: Floats) -> Floats | None:
    """tanh of the differences in their own deviation; all zero where lengths are equal."""
    spread = float(longer.std())
    if spread == 0.0:
        return None if longer.any() else np.zeros_like(longer)
    found: Floats = np.tanh(longer / spread)
    return found
