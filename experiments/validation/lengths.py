"""Lengths in words: what ``isl_spec`` and ``osl_spec`` say of prompts and outputs."""

import math
import re

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass

Ints = npt.NDArray[np.int64]

CONVERSATION_CV = {"prompt": 0.9, "output": 0.6}
"""Standard deviation over mean where a trace is only named: that of ShareGPT's conversations, as
Vidur tokenised them (sharegpt_8k_filtered_stats_llama2_tokenizer.csv)."""

IN_TURN = "distinct prompts in turn"
"""Words of a client's result that tells from how many prompts it drew."""
WHOLE = "fixed, as their mean is a whole number"
"""In the words of a length whose mean over many requests comes out even."""

LARGEST_SIGMA = 5.0
"""Of a lognormal's logarithm; larger ones are tokens."""

SHARED_CV = 0.01
"""Of prompts made of a fixed number of random words: what tokenising them again adds."""

PROMPTS_PER_SET = 100
"""Distinct prompts of a shared-prefix workload that does not tell: 10 groups of 10."""

_NUMBER = r"(\d+(?:\.\d+)?)"
_ALONE = rf"(?<![\w.\-/]){_NUMBER}(?![\w%]|[.,]\d|-\w)"
"""A number that is no part of a name: not the 2 and the 70 of ``llama2-70b``."""
_NO_BOUND = r"(?<!up to )(?<!at most )(?<!at least )(?<!less than )(?<!more than )(?<!max )"
"""Before a number that bounds lengths and is no mean of them."""
_FIXED = r"\b(?:fixed|const(?:ant)?|exact(?:ly)?|always|target)\b"
_SAID = (
    rf"[~≈]\s*{_NUMBER}(?![\w%]|\.\d)",
    rf"(?:\b(?:mean|avg\.?|average|random)(?!\w)|{_FIXED})"
    rf"(?:[ _-]*(?:input|output|prompt|sequence|tokens?|len(?:gth)?s?|at|of|is)\b)*\s*[:=]?\s*"
    rf"{_ALONE}",
    r"\b(?:isl|osl|(?:\w+_)?(?:input|output|prompt)[ _-]?(?:len(?:gth)?|tokens?))\s*[:=]\s*"
    rf"{_ALONE}",
    rf"^(?:isl|osl)\s+{_NUMBER}(?![\w%]|\.\d)",
    rf"{_NO_BOUND}{_ALONE}\s*(?:tokens?\s*)?(?:mean|avg\b|average|on average)",
    rf"{_NO_BOUND}{_ALONE}\s*(?:tokens?\b|toks?\b|target\b|fixed\b)",
    rf"^{_NUMBER}\s*(?:$|[(;,±]|\+/?-)",
)
"""Where words say a mean; any other number in them may be a version, a round or a model's size."""
_DATASET = rf"\brandom[ _-]*(?:input|output)?[ _-]*(?:len(?:gth)?)?\s*[:=]?\s*{_NUMBER}"
"""The dataset of vLLM's benchmark client, whose lengths are all equal but for a range ratio."""
_BARE = rf"(?:(?:isl|osl)\s*[:=]?\s*)?{_NUMBER}\s*(?:tok(?:en)?s?)?"
_NORMAL = rf"\b(?:normal|gauss(?:ian)?)\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
"""Mean and standard deviation, as numpy's and torch's; of ``N(500, 100)`` nobody knows which."""
_RANGES = (
    rf"uniform\s*[(\[]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[)\]]",
    rf"\bu\s*[(\[]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[)\]]",
    rf"\b(?:uniform|between|range|from)\W*{_NUMBER}\s*(?:-|–|to|\.\.|and|,)\s*{_NUMBER}\b(?![-.]\w)",
    rf"^{_NUMBER}\s*(?:-|–|to|\.\.)\s*{_NUMBER}\s*(?:tokens?\b|$|[(;,])",
)
"""How a uniform law is written; the first on the words before commas of thousands are taken out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthLaw:
    """How long prompts or outputs are."""

    mean: float
    cv: float = 0.0
    """Lognormal; 0: all equal."""
    jitter: float = 0.0
    """Uniform within this share of the mean, both ways; instead of ``cv``."""
    shared_tokens: int = 0
    """Of every prompt of a group, at its beginning."""
    groups: int = 0
    distinct: int = 0
    """Prompts that are asked in turn; 0: never the same twice."""
    assumption: str = ""
    """What the words did not say."""

    @property
    def is_random(self) -> bool:
        """Whether lengths differ."""
        return self.cv > 0 or self.jitter > 0

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Draw ``count`` lengths, in tokens, at least 1."""
        if self.jitter:
            low, high = self.mean * (1 - self.jitter), self.mean * (1 + self.jitter)
            drawn = rng.uniform(low, high, count)
        elif self.cv:
            spread = np.log1p(self.cv**2)
            drawn = rng.lognormal(np.log(self.mean) - spread / 2, np.sqrt(spread), count)
        else:
            drawn = np.full(count, self.mean)
        tokens: Ints = np.maximum(np.rint(drawn), 1).astype(np.int64)
        return tokens


def length_law(
    what: str, spec: str | None, mean: float | None, workload: str = ""
) -> LengthLaw | None:
    """Read the words about one length.

    Args:
        what: prompt or output.
        spec: e.g. ``1024``, ``fixed 247 (ignore_eos)``, ``sys100+q447 (~575)``, ``512-1024``,
            ``trace``. Numbers in prose count only where a mean is said (``_SAID``).
        mean: the measured mean, which goes before any number in the words.
        workload: words about the workload, where a jitter may stand.

    Returns:
        None if neither says how long.
    """
    written = (spec or "").strip().lower()
    text = re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)", _without_commas, written)
    about = f"{text} {workload.lower()}"
    shared, groups, distinct = _sharing(text) if what == "prompt" else (0, 0, 0)
    jitter, span = _jitter(about), _range_in(written, text)
    if span and not distinct:
        low, high = span
        return LengthLaw(mean=(low + high) / 2, jitter=(high - low) / (high + low))
    given = mean or _mean_in(text)
    if given is None:
        return None
    if distinct:
        told = f"prompts: {distinct} distinct ones in turn"
        if IN_TURN in text:
            assumption = f"{told}, so many the client drew from"
        else:
            stated = re.search(r"\d+ distinct", text)
            assumption = "" if stated else f"{told}, as in shared-prefix workloads"
        return LengthLaw(
            mean=given, cv=SHARED_CV, shared_tokens=shared, groups=groups, distinct=distinct,
            assumption=assumption,
        )  # fmt: skip
    if jitter:
        return LengthLaw(mean=given, jitter=jitter)
    if (cv := _cv_in(text, given)) is not None:
        return LengthLaw(mean=given, cv=cv)
    if re.search(rf"{_FIXED}|ignore.?eos|min=max|{_DATASET}", text) or re.fullmatch(_BARE, text):
        return LengthLaw(mean=given, assumption=f"{what} lengths: {WHOLE}" if WHOLE in text else "")
    cv = CONVERSATION_CV[what]
    return LengthLaw(
        mean=given, cv=cv, assumption=f"{what} lengths: lognormal with cv {cv:g}, as in ShareGPT"
    )


def _cv_in(text: str, mean: float) -> float | None:
    """Standard deviation over mean, where either is said."""
    if normal := re.search(_NORMAL, text):
        return float(normal[2]) / mean
    logs = re.search(rf"log[ -]?normal.*?(?:sigma|\u03c3)\s*=?\s*{_NUMBER}", text)
    if logs and float(logs[1]) < LARGEST_SIGMA:
        return math.sqrt(math.expm1(float(logs[1]) ** 2))
    deviation = re.search(rf"(?:std|sd|sigma|±|\+-|\+/-)\s*=?\s*{_NUMBER}(?!\s*%)", text)
    if deviation:
        return float(deviation[1]) / mean
    relative = re.search(rf"\bcv\s*(?:of|[:=])?\s*{_NUMBER}(?!\s*%)", text)
    return float(relative[1]) if relative else None


def _sharing(text: str) -> tuple[int, int, int]:
    """Shared tokens, groups and distinct prompts; zeros where nothing is shared."""
    shared = re.search(rf"sys[a-z]*\s*=?\s*{_NUMBER}", text)
    if not shared and "shared" not in text and "distinct" not in text:
        return 0, 0, 0
    distinct = re.search(rf"{_NUMBER}\s*distinct", text)
    grid = re.search(rf"{_NUMBER}\s*groups?\s*x\s*{_NUMBER}", text)
    count = int(distinct[1]) if distinct else 0
    if not count and grid:
        count = int(grid[1]) * int(grid[2])
    count = count or PROMPTS_PER_SET
    groups = int(grid[1]) if grid else max(1, round(count**0.5))
    return (int(float(shared[1])) if shared else 0), groups, count


def _jitter(text: str) -> float:
    found = re.search(rf"(?:\+-|\+/-|±)\s*{_NUMBER}\s*%", text)
    if found:
        return float(found[1]) / 100
    found = re.search(r"\brange[ _-]?ratio\s*(?:of|[:=])?\s*(0?\.\d+)", text)
    return float(found[1]) if found else 0.0


def _without_commas(number: re.Match[str]) -> str:
    return number[0].replace(",", "")


def _range_in(written: str, text: str) -> tuple[float, float] | None:
    """Ends of a uniform law; ``text`` is as written, less the commas of thousands."""
    for pattern, words in zip(_RANGES, (written, written, text, text), strict=True):
        found = re.search(pattern, words)
        if found and float(found[2]) > float(found[1]) > 0:
            return float(found[1]), float(found[2])
    return None


def _mean_in(text: str) -> float | None:
    if normal := re.search(_NORMAL, text):
        return float(normal[1]) or None
    found = next((match for said in _SAID[:2] if (match := re.search(said, text))), None)
    if found:
        return float(found[1]) or None
    parts = re.search(rf"sys[a-z]*\s*=?\s*{_NUMBER}\s*\+?\s*q[a-z]*\s*=?\s*{_NUMBER}", text)
    if parts:
        return float(parts[1]) + float(parts[2])
    found = next((match for said in _SAID[2:] if (match := re.search(said, text))), None)
    return float(found[1]) or None if found else None
