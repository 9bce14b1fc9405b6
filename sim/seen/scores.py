"""Scores of replicas, added up scorer by scorer: formulas of llm-d and Dynamo.

Sources: llm-d-router (commit 520af47), pkg/epp/framework/plugins/scheduling/scorer; Dynamo
(commit 07a6c9c), lib/kv-router/src/scheduling/selector.
"""


def add_fewest(scores: list[float], weight: float, counts: list[int]) -> None:
    """``(max - n) / (max - min)``; 1 for all if they are equal."""
    low, high = min(counts), max(counts)
    for number, count in enumerate(counts):
        scores[number] += (1.0 if low == high else (high - count) / (high - low)) * weight


def add_free(scores: list[float], weight: float, uses: list[float]) -> None:
    """``1 - use``."""
    for number, use in enumerate(uses):
        scores[number] += (1.0 - use) * weight


def add_share(scores: list[float], weight: float, found: list[int], of: int) -> None:
    """``found / of``, at most 1; 0 of nothing."""
    if of <= 0:
        return
    for number, count in enumerate(found):
        if count > 0:
            scores[number] += min(count / of, 1.0) * weight


def add_idle(
    scores: list[float], weight: float, counts: list[int], idle: int, busy_score: float
) -> None:
    """1 up to ``idle`` requests, else ``(max - n) / max`` times the most that a busy one has."""
    high = max(counts)
    for number, count in enumerate(counts):
        score = 1.0 if count <= idle else (high - count) / high * busy_score
        scores[number] += score * weight


def add_below(scores: list[float], weight: float, counts: list[int], most: float) -> None:
    """``1 - n / most``, at least 0."""
    for number, count in enumerate(counts):
        scores[number] += (1.0 - min(float(count), most) / most) * weight


def add_half(scores: list[float], weight: float, counts: list[int], most: float) -> None:
    """``0.5 (1 - n / most)``, at least 0."""
    for number, count in enumerate(counts):
        scores[number] += 0.5 * (1.0 - min(float(count), most) / most) * weight


def costs(
    prefill_tokens: list[int],
    decode_blocks: list[int],
    requests: list[int],
    prompt: tuple[int, int, int],
    shared: list[int],
    cached: list[int],
    weights: tuple[float, float, float],
) -> list[float]:
    """Return Dynamo's cost of sending a prompt to each replica, in blocks.

    Args:
        prefill_tokens: of prompts under way that have no token yet, what was not cached.
        decode_blocks: of all prompts under way, each block once.
        requests: under way.
        prompt: its tokens, its full blocks, tokens of a block.
        shared: its first blocks that are in use.
        cached: its first blocks that are cached.
        weights: ``prefill_load_scale``, ``overlap_score_credit``, ``decode_active_request_weight``.
    """
    tokens, blocks, size = prompt
    scale, credit, of_request = weights
    found: list[float] = []
    for number, waiting in enumerate(prefill_tokens):
        prefill = max((waiting + tokens) / size - credit * cached[number], 0.0)
        decode = float(decode_blocks[number] + blocks - shared[number])
        found.append(scale * prefill + decode + of_request * requests[number])
    return found


def in_blocks(tokens: list[int], size: int) -> list[int]:
    """Return how many full blocks of ``size`` tokens each of these is."""
    return [each // size for each in tokens]


def lowest(values: list[float]) -> list[int]:
    """Return the places of the lowest value."""
    low = min(values)
    return [number for number, value in enumerate(values) if value == low]


def highest(values: list[float]) -> list[int]:
    """Return the places of the highest value."""
    high = max(values)
    return [number for number, value in enumerate(values) if value == high]
