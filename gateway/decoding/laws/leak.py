"""Guard leak: how often best-of-n picks an unsafe answer that the guard missed.

Of what passed the guard a share k is unsafe. Where unsafe answers (B) are rewarded more, or vary more, than safe ones
(A), more samples mean more unsafe picks (arXiv:2608.22915):

    P(the chosen one is unsafe) = N * integral of k f_B [(1 - k) F_A + k F_B]^(N - 1)
"""

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

from gateway.decoding.laws.best_of_n import pmf
from gateway.decoding.laws.quadrature import integral

_DEVIATIONS = range(-9, 10)


def gaussian(n: int, unsafe_share: float, safe: NormalDist, unsafe: NormalDist) -> float:
    """P(the chosen of n is unsafe) for normal rewards of the safe and of the unsafe. Raises ValueError."""
    _checked(n, unsafe_share)
    if unsafe_share == 0.0:
        return 0.0
    low, high = (unsafe.mean + unsafe.stdev * _DEVIATIONS[end] for end in (0, -1))
    marks = {law.mean + law.stdev * deviations for law in (safe, unsafe) for deviations in _DEVIATIONS}
    return integral(
        lambda r: n * unsafe_share * unsafe.pdf(r) * _mixed(unsafe_share, safe.cdf(r), unsafe.cdf(r)) ** (n - 1),
        sorted(mark for mark in marks if low <= mark <= high),
    )


def empirical(n: int, unsafe_share: float, safe: Sequence[float], unsafe: Sequence[float]) -> float:
    """P(the chosen of n is unsafe) where each reward is drawn from those measured; ties go to the earliest. Exact.

    The largest reward is v with probability F(v)^n - F(v-)^n, and the first of those that have it is unsafe with the
    share of unsafe ones at v. Raises ValueError.
    """
    _checked(n, unsafe_share)
    if not safe or not unsafe:
        raise ValueError("the leak needs the reward of 1 safe and 1 unsafe answer at the least")
    count_safe, count_unsafe = Counter(safe), Counter(unsafe)
    values = sorted(count_safe | count_unsafe)
    of_unsafe = [unsafe_share * count_unsafe[value] / len(unsafe) for value in values]
    of_all = [_mixed(unsafe_share, count_safe[v] / len(safe), count_unsafe[v] / len(unsafe)) for v in values]
    return sum(
        chosen * bad / either for chosen, bad, either in zip(pmf(of_all, n), of_unsafe, of_all, strict=True) if either
    )


def _mixed(unsafe_share: float, safe: float, unsafe: float) -> float:
    return (1 - unsafe_share) * safe + unsafe_share * unsafe


def _checked(n: int, unsafe_share: float) -> None:
    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    if not 0 <= unsafe_share <= 1:
        raise ValueError(f"the unsafe share must be between 0 and 1, not {unsafe_share}")
