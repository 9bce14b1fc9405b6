"""A test of the missed share that may look at nine moments, and may end undecided.

Student's t over batches for the log odds of their mean (delta method), at a level that nine looks
share (Bonferroni) and that is spent with a power of the runs (Kim and DeMets, "Design and
analysis of group sequential tests based on the type I error spending rate function", Biometrika
74(1), 1987): shares of few batches are skewed, and a low mean comes with a low standard error. On
the scale of the share itself intervals are too narrow where the mean is low and too wide where it
is high: of queues that miss just the 1% that may (batches with a cv of 1.9) eight looks then call
17% kept in place of 5%. A sequential
probability ratio test is faster and wrong twice as often near the limit; confidence sequences
without a law of the data (Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49(2), 2021) pay for a bound of 1 on a mean of 0.01 and do not
decide in 150 batches.

Requests that wait too long do so together, some long busy periods make most of a missed share, and
runs that saw few of them have both a low mean and a low spread. So the spread of the runs is not
asked alone: the load tells before them what busy periods are like, as a design effect
(``experiments.reporting.support``). A limit is kept where neither the spread nor that effect leaves
doubt, and early missed ones have to exceed what an unlucky busy period does. docs/planning.md has
what came of it.
"""

import math
from collections.abc import Sequence
from enum import Enum
from statistics import NormalDist

from experiments.reporting.student import t_quantile

BATCHES = 5
"""Of one run."""
LOOKS = (2, 3, 4, 6, 8, 12, 16, 24, 36)
"""After so many runs: never before ten batches. An A100 that misses 0.67% where 1% may is told to
keep it in 94% of the tests, with 24 runs at most in 85. What misses a third of what it may takes
six runs in the mean."""
SPENT = 1.7
"""Power of the runs with which the level is spent: the first looks have as much as they would have
of 24 runs and their square, so that what is far from the limit takes no more of them."""
HOPELESS = 5.0
"""A first run that misses so many times what is allowed decides at once."""
FAR = 2.0
"""So do runs that miss so many times that together, and more than it each, from the first look on.
Where a queue grows as long as a run lasts, its batches differ too much for Student's t to say what
is plain."""
FUTILE = 0.03
"""A test ends undecided when all of its runs would find the limit kept with less probability. Of
what misses 0.8% where 1% may, three in a hundred verdicts of kept are lost by that."""
FUTILE_AT_FIRST, FUTILE_OF_FEW = 0.01, 0.05
"""So does a short run before them: of so few requests one busy period is much; where only a few
runs would follow, as their verdict only prices a runner-up, it does sooner."""
USUAL_CV, AS_BATCHES, EARLY = 1.0, 2, 4
"""What shares of batches vary by, which counts as two batches in the looks at two to four runs. Of
a skewed law a few batches now and then have a low mean and hardly a spread: of an A100 that misses
just the 1% that may, two of thirty pairs of runs look as if they kept it at a level of one in six
thousand, and half of all that was wrongly called kept was so at one of these looks."""
FEWEST_EXPECTED = 30.0
"""Misses that were allowed among the requests of which none missed, for that to say something;"""
PERIODS = 4.0
"""and so many busy periods there are, for each effective request of those, in which some would
miss: the time above a level of a random walk with drift has a second moment of four times the
square of its mean, and a design effect is the second moment over the mean."""
LEAST_WORTH = 0.15
"""Effective misses, below which a cube root is no normal variable."""
BY_LUCK = NormalDist().inv_cdf(1 - 0.0025)
"""How rarely a limit that is just kept may look as bad as what ends a test early as missed."""


class Verdict(Enum):
    """What a test says of a limit."""

    KEPT = "kept"
    MISSED = "missed"
    UNDECIDED = "undecided"


Batch = tuple[int, int]
"""Missed and measured requests."""


def decide(
    runs: Sequence[Sequence[Batch]], allowed: float, confidence: float,
    effects: Sequence[float] = (), *, too_near: bool = False,
) -> Verdict:  # fmt: skip
    """Return what the runs so far say, as if they had been looked at one by one.

    Args:
        runs: batches of each run, in the order of the seeds.
        allowed: missed share that is still kept.
        confidence: that neither verdict is wrong.
        effects: design effect of the misses that is to be expected, after each number of runs;
            none: nothing is known but the runs.
        too_near: the load is one of which hardly anything is kept; what looks plain is.
    """
    if not runs:
        return Verdict.UNDECIDED
    known = effects or [1.0] * len(runs)
    luck = [1.0] * len(runs) if too_near else known
    first = _share(runs[0])
    if first > HOPELESS * allowed and no_luck(first, _measured(runs[:1]), allowed, luck[0]):
        return Verdict.MISSED
    for look in LOOKS:
        if look > len(runs):
            break
        seen, effect = runs[:look], known[look - 1]
        each = [_share(run) for run in seen]
        mean = math.fsum(each) / look
        plain = min(each) > allowed and mean > FAR * allowed
        if plain and no_luck(mean, _measured(seen), allowed, luck[look - 1]):
            return Verdict.MISSED
        batches = [batch for run in seen for batch in run]
        found = _look(batches, allowed, level_of(look, confidence), effect)
        if found is not Verdict.UNDECIDED:
            return found
    return Verdict.UNDECIDED


def no_luck(share: float, measured: float, allowed: float, effect: float) -> bool:
    """Tell whether so many requests would hardly miss so much of what just keeps a limit.

    By what is to be expected of them, not by how they vary.
    """
    worth = measured * allowed / effect
    return worth > 0 and share > allowed * _of_the_mean(worth, BY_LUCK)


def is_over(
    runs: Sequence[Sequence[Batch]], allowed: float, confidence: float, most: int = LOOKS[-1],
    effects: Sequence[float] = (), *, too_near: bool = False,
) -> bool:  # fmt: skip
    """Tell whether no further run would change anything, or there are ``most`` of them.

    Nor would it where they hardly can end as kept: undecided and missed are the same to a buyer.
    """
    found = decide(runs, allowed, confidence, effects, too_near=too_near)
    if len(runs) >= most or found is not Verdict.UNDECIDED:
        return True
    return len(runs) >= LOOKS[0] and _is_futile(runs, allowed, confidence)


def hardly_kept(
    short: Sequence[Batch], length: float, allowed: float, confidence: float, most: int
) -> bool:
    """Tell whether ``most`` runs hardly can say that a limit is kept, by a short one before them.

    Args:
        short: its batches.
        length: of one of them, over that of a run's.
        allowed: missed share that is still kept.
        confidence: of the verdict.
        most: runs that there may be.
    """
    shares = [missed / measured for missed, measured in short if measured]
    if len(shares) < 2:
        return False
    known = length * len(shares) / (BATCHES * most)
    far = _far_from_kept(shares, allowed, known, 1 + known, most, confidence)
    return far > NormalDist().inv_cdf(1 - (FUTILE_OF_FEW if most < LOOKS[-1] else FUTILE_AT_FIRST))


def surely_missed(short: Sequence[Batch], allowed: float, confidence: float) -> bool:
    """Tell whether a short run that hardly lets the others end as kept says itself "missed".

    By its own interval. It begins empty, so what it misses is less than what longer ones do.
    """
    shares = [missed / measured for missed, measured in short if measured]
    if len(shares) < 2:
        return False
    beyond, error = _log_odds(shares, allowed)
    return beyond > t_quantile((1 + confidence) / 2, len(shares) - 1) * error


def _is_futile(runs: Sequence[Sequence[Batch]], allowed: float, confidence: float) -> bool:
    """Tell whether all runs, as those so far, hardly would say that a limit is kept."""
    shares = [missed / measured for run in runs for missed, measured in run if measured]
    if len(shares) < 2:
        return False
    done = len(runs) / LOOKS[-1]
    far = _far_from_kept(shares, allowed, done, 1 - done, LOOKS[-1], confidence)
    return far > t_quantile(1 - FUTILE, len(shares) - 1)


def _far_from_kept(
    shares: Sequence[float], allowed: float, known: float, open_part: float, most: int,
    confidence: float,
) -> float:  # fmt: skip
    """Return how far the look after ``most`` runs is from kept, by the batches so far.

    In standard errors of what is still open: stochastic curtailment (Lan, Simon and Halperin,
    "Stochastically curtailed tests in long-term clinical trials", Sequential Analysis 1(3), 1982),
    with the predictive law of the last mean: as the mean so far, with its variance times
    ``open_part``.

    Args:
        shares: of the batches.
        allowed: missed share that is still kept.
        known: requests of these over those of all the runs of that look.
        open_part: what is still to come of those, where these are among them; else more than 1.
        most: runs of that look.
        confidence: of the verdict.
    """
    beyond, error = _log_odds(shares, allowed)
    if not error or open_part <= 0:
        return math.inf if beyond > 0 else -math.inf
    half = t_quantile(level_of(most, confidence), BATCHES * most - 1) * error * math.sqrt(known)
    return (half + beyond) / (error * math.sqrt(open_part))


def level_of(look: int, confidence: float) -> float:
    """Return the one-sided level of confidence of the look after so many runs."""
    before = max((each for each in LOOKS if each < look), default=0)
    spent, own, whole = (math.pow(runs, SPENT) for runs in (before, look, LOOKS[-1]))
    return 1 - (1 - confidence) / 2 * (own - spent) / whole


def _look(batches: list[Batch], allowed: float, level: float, effect: float) -> Verdict:
    shares = [missed / measured for missed, measured in batches if measured]
    if len(shares) < 2:
        return Verdict.UNDECIDED
    measured = _measured([batches])
    mean = math.fsum(shares) / len(shares)
    if not mean:
        expected = measured * allowed
        none = expected >= FEWEST_EXPECTED and math.exp(-PERIODS * expected / effect) < 1 - level
        return Verdict.KEPT if none else Verdict.UNDECIDED
    if mean == 1:
        return Verdict.MISSED
    beyond, error = _log_odds(shares, allowed)
    alone = 1 / math.sqrt(measured * mean * (1 - mean))  # if requests were independent
    quantile = t_quantile(level, len(shares) - 1)
    few = mean < allowed * _of_the_mean(measured * allowed / effect, -quantile)
    if few and beyond + quantile * max(error * _caution(shares, error), alone) < 0:
        return Verdict.KEPT
    return Verdict.MISSED if beyond - quantile * max(error, alone) > 0 else Verdict.UNDECIDED


def _of_the_mean(worth: float, quantile: float) -> float:
    """Return a quantile of the share that just keeps a limit, over what is allowed.

    Shares that are sums of few busy periods have about a gamma law. Its quantile is that of Wilson
    and Hilferty, "The distribution of chi-square", Proceedings of the National Academy of Sciences
    17(12), 1931. Where that fails, below a seventh of a miss, the upper tail is about worth
    times the exponential integral, of which the mean of its bounds is taken (Abramowitz and Stegun,
    "Handbook of Mathematical Functions", 5.1.20). Either is within 6% of the quantile.

    Args:
        worth: misses that are allowed, over their design effect: one over the square of the cv.
        quantile: of the normal distribution, or of Student's t to be careful.
    """
    if worth < LEAST_WORTH:
        return _rare(worth, NormalDist().cdf(-quantile)) if quantile > 0 and worth > 0 else 0.0
    root: float = 1 - 1 / (9 * worth) + quantile / (3 * math.sqrt(worth))
    return max(root, 0.0) ** 3


def _rare(worth: float, tail: float) -> float:
    """Return what the share exceeds with a small probability, over what is allowed."""
    low, high = 0.0, 100.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        integral = math.exp(-middle) * (math.log1p(1 / middle) + math.log1p(2 / middle) / 2) / 2
        beyond = worth * integral
        low, high = (middle, high) if beyond > tail else (low, middle)
    return high / worth


def _log_odds(shares: Sequence[float], allowed: float) -> tuple[float, float]:
    """Return how far the log odds of the mean lie above those allowed, and their standard error.

    The error is 0 where all shares are the same; at shares of 0 and 1 the odds end.
    """
    mean = math.fsum(shares) / len(shares)
    if not 0 < mean < 1:
        return mean - allowed, 0.0
    variance = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    odds = mean * (1 - allowed) / (allowed * (1 - mean))
    return math.log(odds), math.sqrt(variance / len(shares)) / (mean * (1 - mean))


def _caution(shares: Sequence[float], error: float) -> float:
    """Return how many times its error a verdict of kept counts with; more than once at first."""
    count = len(shares)
    if count > BATCHES * EARLY or not error:
        return 1.0
    cv = error * (1 - math.fsum(shares) / count) * math.sqrt(count)
    usual = (cv**2 * (count - 1) + USUAL_CV**2 * AS_BATCHES) / (count - 1 + AS_BATCHES)
    return max(1.0, math.sqrt(usual) / cv)


def _share(run: Sequence[Batch]) -> float:
    measured = _measured([run])
    return sum(missed for missed, _ in run) / measured if measured else 1.0


def _measured(runs: Sequence[Sequence[Batch]]) -> int:
    return sum(count for run in runs for _, count in run)
