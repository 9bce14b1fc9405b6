"""The price of a step that several engines compute together, from tables: plain Python.

Ranks of data-parallel attention have batches of their own and meet in every layer of experts, so
the slowest of them decides. ``hardware.steps.ranks`` builds the tables and says what they mean.
"""

from array import array

from hardware.steps.prices import StepPrices


class JointPrices:
    """Tables of the ranks of one engine.

    Args:
        ranks: how many.
        own: of one rank's step, but for what depends on its tokens.
        padded: by tokens of the largest rank: what every rank computes; -1: each its own.
        token_s: by tokens that a rank computes: what it spends on them, experts apart.
        most_s: by the largest of them: what all spend, besides.
        total_s: by their sum: what all spend on experts, and on what is sent for them.
        graph_tokens: of the largest step that is replayed as a graph, by its largest rank.
        eager_s: what the host takes to launch a larger one.
    """

    def __init__(
        self,
        ranks: int,
        own: StepPrices,
        padded: "array[int]",
        token_s: "array[float]",
        most_s: "array[float]",
        total_s: "array[float]",
        graph_tokens: int,
        eager_s: float,
    ) -> None:
        self.ranks = ranks
        self.own = own
        self.padded = padded
        self.token_s = token_s
        self.most_s = most_s
        self.total_s = total_s
        self.graph_tokens = graph_tokens
        self.eager_s = eager_s

    def __reduce__(self) -> tuple[type["JointPrices"], tuple[object, ...]]:
        """Be sent to another process, compiled or not."""
        tables = (self.padded, self.token_s, self.most_s, self.total_s)
        graphs = (self.graph_tokens, self.eager_s)
        return JointPrices, (self.ranks, self.own, *tables, *graphs)

    def shares_s(self, tokens: list[int]) -> tuple[list[float], float]:
        """Return what every rank spends on its tokens, and what all of them spend together.

        Args:
            tokens: of every rank.
        """
        most = max(tokens)
        padded = self.padded[most]
        if padded >= 0:
            together_s = self.most_s[padded] + self.total_s[self.ranks * padded]
            shares_s = [self.token_s[padded]] * self.ranks
        else:
            together_s = self.most_s[most] + self.total_s[sum(tokens)]
            shares_s = [self.token_s[count] for count in tokens]
        if most > self.graph_tokens:  # GPUs wait for the host, or the host for them
            together_s = max(together_s, self.eager_s - max(shares_s))
        return shares_s, together_s

    def step_s(
        self,
        decodes: list[int],
        reads: list[list[int]],
        chunks: list[list[tuple[int, int]]],
        shares_s: list[float],
        together_s: float,
    ) -> float:
        """Return the seconds of one step: the slowest rank's own, and what all do together.

        Args:
            decodes: of every rank; a rank without any decodes and chunks has no sequences.
            reads: positions that they attend, by class of cache.
            chunks: ``(chunk_tokens, past_tokens)`` of every rank.
            shares_s: what every rank spends on its tokens, see ``shares_s``.
            together_s: and all together.
        """
        slowest_s = 0.0
        for rank in range(self.ranks):
            own_s = self.own.step_s(decodes[rank], reads[rank], chunks[rank]) + shares_s[rank]
            if own_s > slowest_s:
                slowest_s = own_s
        return slowest_s + together_s
