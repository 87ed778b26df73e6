"""Which answers are compared, and from the comparisons a value for each: pure functions of numbers.

A comparison of i and j gives y_ij, the log-odds that i is preferred, averaged over both positions. With the law of
Bradley and Terry (1952), P(i over j) = sigmoid(s_i - s_j), and a judge who prefers a position by any b, the log-odds
are s_i - s_j + b with i first and s_i - s_j - b with i second: their mean is s_i - s_j, and b is gone exactly. (Of
probabilities the mean would keep some of it.)

The values are the least-squares solution of s_i - s_j = y_ij over all comparisons made, with mean 0 (HodgeRank: Jiang,
Lim, Yao & Ye 2011, "Statistical ranking and combinatorial Hodge theory", arXiv:0811.1067): L s = d, L the graph's
Laplacian, d_i = sum of y_ij over j. Where all are compared with all, that is s_i = (1/n) sum of y_ij: the mean
log-odds. Where the law holds these are its strengths up to a constant, as maximum likelihood would give. Maximum
likelihood on probabilities (Hunter 2004) is not used, since it runs to infinity for answers that always win, and sure
verdicts round to probability 1: values there are ties or noise. Log-odds are differences of log-probabilities, finite
and distinct however sure the judge is.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Pair = tuple[int, int]


def schedule(count: int, opponents: int) -> list[Pair]:
    """The pairs to compare among `count`: all, or where those are more, `opponents` (an even number) for each.

    In the second case the answers stand in a circle, and each meets those at opponents / 2 distances to both sides. One
    distance is 1, so all are connected; the others grow geometrically, so that few steps lead from any to any other.
    """
    if count - 1 <= opponents:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    return [(i, (i + distance) % count) for distance in _distances(count, opponents // 2) for i in range(count)]


def _distances(count: int, wanted: int) -> list[int]:
    """`wanted` different distances from 1 to less than half of `count`, in about equal proportions."""
    longest = (count - 1) // 2
    distances = [1]
    for step in range(1, wanted):
        grown = round(longest ** (step / (wanted - 1)))
        left = wanted - step - 1  # each still to come needs a longer one
        distances.append(min(max(grown, distances[-1] + 1), longest - left))
    return distances


def prompts(count: int, opponents: int) -> int:
    """How many prompts the comparisons among `count` take: two each."""
    return count * min(count - 1, opponents)


def most_candidates(opponents: int, max_prompts: int) -> int:
    """The largest count whose comparisons take at most `max_prompts`."""
    count = 1
    while prompts(count + 1, opponents) <= max_prompts:
        count += 1
    return count


def strengths(count: int, log_odds: Mapping[Pair, float]) -> list[float | None]:
    """The value of each of `count`, from y_ij for the pairs (i, j) that were compared.

    Values of answers that no chain of comparisons connects cannot be told against each other. So the largest connected
    group has values, with mean 0, and the others None; where two groups are the largest, all are None.
    """
    groups = sorted(_groups(count, log_odds), key=len, reverse=True)
    values: list[float | None] = [None] * count
    if len(groups) > 1 and len(groups[0]) == len(groups[1]):
        return values
    place = {one: index for index, one in enumerate(groups[0])}
    laplacian = np.zeros((len(place), len(place)))
    sums = np.zeros(len(place))
    for (i, j), y in log_odds.items():
        if i in place:
            a, b = place[i], place[j]
            laplacian[a, a] += 1
            laplacian[b, b] += 1
            laplacian[a, b] -= 1
            laplacian[b, a] -= 1
            sums[a] += y
            sums[b] -= y
    # The Laplacian leaves the mean open; a constant added to each entry sets it to 0.
    solved = np.linalg.solve(laplacian + 1 / len(place), sums)
    for one, index in place.items():
        values[one] = float(solved[index])
    return values


def _groups(count: int, pairs: Mapping[Pair, float]) -> list[Sequence[int]]:
    """The connected groups, each in order."""
    leader = list(range(count))

    def find(one: int) -> int:
        while leader[one] != one:
            one = leader[one]
        return one

    for i, j in pairs:
        leader[max(find(i), find(j))] = min(find(i), find(j))
    groups: dict[int, list[int]] = {}
    for one in range(count):
        groups.setdefault(find(one), []).append(one)
    return list(groups.values())
