"""The decoding sequences of a replica as counters, so that a step costs O(what changed).

Every decoding sequence gains one token in each decode step. So nothing has to be touched per
sequence: the sum of contexts grows by the number of sequences, a heap of finish steps says who ends
when, and a histogram says how many sequences cross into a new KV block in which step:

    a sequence with k tokens in the cache at decode step s needs a block when k % block_size == 0,
    that is in every step s' with s' % block_size == (s - k) % block_size.
"""

from heapq import heappop, heappush

from sim.sequence import Sequence


class DecodeSet:
    """Sequences that decode together.

    Attributes:
        count: sequences.
        context_tokens: KV positions that they attend in the next step, current tokens included.
        step: decode steps done so far.
    """

    __slots__ = (
        "_finish_heap",
        "_joined",
        "_needs",
        "block_size",
        "context_tokens",
        "count",
        "step",
    )

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.count = 0
        self.context_tokens = 0
        self.step = 0
        self._needs = [0] * block_size
        self._finish_heap: list[tuple[int, int, Sequence]] = []
        self._joined = 0

    def join(self, sequence: Sequence) -> None:
        """Let a prefilled sequence, with at least one token to go, decode from the next step on."""
        step, kv_tokens = self.step, sequence.kv_tokens
        sequence.joined_step = step
        sequence.finish_step = finish = step + sequence.output_tokens - sequence.generated_tokens
        self.count += 1
        self.context_tokens += kv_tokens + 1
        self._needs[(step - kv_tokens) % self.block_size] += 1
        self._joined += 1
        heappush(self._finish_heap, (finish, self._joined, sequence))

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out and bring its own counts up to date."""
        done = self.step - sequence.joined_step
        self._needs[(sequence.joined_step - sequence.kv_tokens) % self.block_size] -= 1
        sequence.kv_tokens += done
        sequence.generated_tokens += done
        sequence.finish_step = -1  # marks the heap's entry as stale
        self.count -= 1
        self.context_tokens -= sequence.kv_tokens + 1

    def blocks_needed(self) -> int:
        """New KV blocks of the next step."""
        return self._needs[self.step % self.block_size]

    def blocks_needed_after(self, steps: int) -> int:
        """New KV blocks of the ``steps`` steps that follow the next one."""
        size = self.block_size
        cycles, rest = divmod(steps, size)
        blocks = cycles * self.count
        if rest:
            start = (self.step + 1) % size
            end = start + rest
            needs = self._needs
            blocks += (
                sum(needs[start:end])
                if end <= size
                else (sum(needs[start:]) + sum(needs[: end - size]))
            )
        return blocks

    def steps_ahead(self, free_blocks: int) -> int:
        """How many steps can follow each other until one finishes or blocks run out.

        ``free_blocks`` are those left once the next step has its own; so the answer is at least 1.
        """
        heap = self._finish_heap
        while heap[0][0] != heap[0][2].finish_step:
            heappop(heap)
        steps = heap[0][0] - self.step
        size, count = self.block_size, self.count
        if free_blocks >= count * ((steps + size - 2) // size):
            return steps
        cycles, free_blocks = divmod(free_blocks, count)
        fit = 1 + cycles * size
        index = self.step + fit
        while fit < steps:
            free_blocks -= self._needs[index % size]
            if free_blocks < 0:
                break
            fit += 1
            index += 1
        return min(fit, steps)

    def advance(self, steps: int) -> list[Sequence]:
        """Do ``steps`` steps; return those who finish with the last one, in order of joining."""
        self.step = step = self.step + steps
        self.context_tokens += steps * self.count
        heap = self._finish_heap
        finished: list[Sequence] = []
        while heap and heap[0][0] <= step:
            finish, _, sequence = heappop(heap)
            if sequence.finish_step == finish:
                self.leave(sequence)
                finished.append(sequence)
        return finished
