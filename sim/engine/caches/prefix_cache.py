"""KV blocks that outlive their requests: vLLM v1's prefix cache, as counts and a queue.

    a request of 11 tokens, block_size = 4:   [k0] [k1] [ ]      k: identity of a full block
    another one that begins with 9 of them:   [k0] [k1] [ ]      shares k0 and k1

A full block has an identity, which stands for all tokens from the request's first up to its end:
the stream that tells them (``workloads.prefixes``), and its place. A block that nobody holds is
free, and keeps its identity and content until it is taken for something else: the block that became
free first is taken first, and of one request the last block first. Two blocks may have the same
identity, as in vLLM: the older one is found. Blocks are kept as runs (``runs``).

Blocks that nobody can look for (partial ones, answers) have no identity here; they are only
counted. vLLM gives every full block an identity (a hash). With ``unhashed_first``, as since 0.23,
those that are not full go to the front of the queue.
"""

from collections.abc import Callable

from sim.engine.caches.held import check_holders, check_known, held_runs, own_stream, told
from sim.engine.caches.homes import Homes
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.caches.runs import ANONYMOUS, FreeQueue, Run
from sim.engine.caches.telling import Telling, apart
from sim.engine.caches.texts import Piece, Spans, Texts
from sim.engine.sequence import Sequence, known_at


class PrefixCache(BlockPool):
    """A pool whose free blocks can be found again by their identities, as with vLLM v1's
    ``enable_prefix_caching``.

    - Full blocks only. The last token of a prompt is always computed, and with it its block.
    - A block can be found as soon as it is in a step: a prompt may share what one before it in the
      same step computes.
    - A preempted request finds what is left of its own blocks.
    - So it is with answers that later prompts have in common with it (streams that go beyond the
      prompt): their blocks are named when somebody looks for one.
    - Ahead, the token of the step in progress is not known yet, and its block has no identity.

    Args:
        spans_of: the streams of a request, and how many of its blocks lie wholly in them and in
            those before.
        unhashed_first: whether free blocks that are not full are taken before all others.
        ahead: whether steps are planned while the one before is computed.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        spans_of: Callable[[int], Spans] | None = None,
        unhashed_first: bool = False,
        ahead: bool = False,
    ) -> None:
        super().__init__(num_blocks, block_size)
        self.remembers = True
        self._ahead = ahead
        self.tells_late = True
        self._tellers: dict[Sequence, int] = {}  # who runs, with a stream beyond the prompt
        self._telling = Telling()
        self._homes: Homes | None = None
        self._spans_of = spans_of
        self._unhashed_first = unhashed_first
        self._admissions = 0
        self.hits: list[Piece] = []
        """What the last search found."""
        self._found = 0  # how many blocks that were
        self._idle = 0  # and how many of them are free
        self._missing = ANONYMOUS  # the stream whose next block was not there
        self._queue = FreeQueue()
        self._queue.append(Run(ANONYMOUS, 0, num_blocks, 0, False))
        self._queued = num_blocks  # blocks in the queue; more than free: some were taken since
        self._texts = Texts(self._queue)

    def arrive(self, sequence: Sequence) -> None:
        """A sequence is queued: name the blocks that it may share."""
        sequence.held = []
        sequence.named_blocks = 0
        sequence.spans = [] if self._spans_of is None else self._spans_of(sequence.request)

    def find(self, sequence: Sequence) -> int:
        """Find the blocks of the longest known beginning; return how many tokens they hold."""
        self._settle()
        self.hits, self._found, self._idle = [], 0, 0
        self._missing = ANONYMOUS
        most = (sequence.target_tokens - 1) // self.block_size
        for stream, stop in sequence.spans:
            stop = min(stop, most)
            if self._found < stop and not self._find_in(stream, stop):
                self._missing = stream
                break
        return self._found * self.block_size

    def may_find_more(self) -> bool:
        """As any: somebody's answer is the text that it goes on with."""
        return self._missing != ANONYMOUS and self._missing in self._tellers.values()

    def _find_in(self, stream: int, stop: int) -> bool:
        """Find the next blocks of a stream; say whether all of them up to ``stop``."""
        end = self._texts.reach(stream, self._found, stop)
        for piece in self._texts.pieces(stream, self._found, end):
            self.hits.append(piece)
            if not piece[0].holders:
                self._idle += piece[2]
        self._found = end
        return end == stop

    def lacks(self, tokens: int) -> int:
        """Free blocks that the sequence just looked for takes, those it found included."""
        return self.blocks(tokens) - self._found + self._idle

    def start(self, sequence: Sequence, tokens: int) -> None:
        """As any; its full blocks can be found from now on."""
        self.hold(sequence, tokens)
        self.fill(sequence, tokens)

    def hold(self, sequence: Sequence, tokens: int) -> None:
        """That sequence holds what was found, and blocks of ``tokens`` in all; none is full yet."""
        held: list[tuple[Run, int]] = []
        for run, first, count in self.hits:
            run = self._texts.cut(run, first, first + count)
            if not run.holders:
                self._queue.remove(run)
            run.holders += 1
            held.append((run, count))
        self._queued -= self._idle
        self.free -= self.lacks(tokens)
        sequence.held, sequence.named_blocks = held, self._found
        if not sequence.preemptions:
            sequence.cached_tokens = self._found * self.block_size
        self.seat(sequence)
        if told(sequence) * self.block_size > sequence.prompt_tokens:
            self._tellers[sequence] = sequence.spans[-1][0]
            self._telling.begin(sequence, self.block_size, self._homes, self._texts.number)

    def seat(self, sequence: Sequence) -> None:
        """As any; those who end together free their blocks in the order in which they began."""
        self._admissions += 1
        sequence.admission = self._admissions

    def fill(self, sequence: Sequence, tokens: int) -> None:
        """Give taken blocks their identities, as far as they are full with ``tokens`` tokens."""
        full = tokens // self.block_size
        if sequence.named_blocks >= min(full, told(sequence)):
            return
        held = sequence.held
        for stream, stop in sequence.spans:
            stop = min(stop, full)
            if sequence.named_blocks < stop:
                last = held[-1][0] if held else None
                runs, more = self._texts.name(stream, sequence.named_blocks, stop, last)
                if more:
                    held[-1] = (held[-1][0], held[-1][1] + more)
                for run in runs:
                    held.append((run, run.count))
                sequence.named_blocks = stop

    def concerns(self, sequence: Sequence) -> bool:
        """See ``BlockPool``: then blocks are to be named in the order in which they were filled."""
        return self._telling.concerns(sequence)

    def tell(self, step: int, coming: int) -> None:
        """Name the full blocks of answers, in the order in which they were filled."""
        if not self._tellers:
            return
        size, ready = self.block_size, list[tuple[Sequence, int]]()
        for sequence in self._tellers:
            full = min(self._known_tokens(sequence, step + coming) // size, told(sequence))
            if full > sequence.named_blocks:
                ready.append((sequence, full))
        if not apart(ready):
            ready = self._as_filled(ready, step + coming)
        for sequence, full in ready:
            self.fill(sequence, full * size)

    def _as_filled(
        self, ready: list[tuple[Sequence, int]], step: int
    ) -> list[tuple[Sequence, int]]:
        """Whose blocks are full, and how many, in the order in which they were filled."""
        size = self.block_size
        filled: list[tuple[int, int, int, Sequence]] = []
        for sequence, full in ready:
            known = self._known_tokens(sequence, step)
            for blocks in range(sequence.named_blocks + 1, full + 1):
                age = self._age(known - blocks * size)
                filled.append((-age, sequence.admission, blocks, sequence))
        filled.sort()
        return [(sequence, blocks) for _, _, blocks, sequence in filled]

    def _known_tokens(self, sequence: Sequence, step: int) -> int:
        """Tokens of a running sequence whose full blocks have identities."""
        if sequence.finish_step >= 0:
            return known_at(sequence, step, self._ahead)
        if self._ahead:
            return max(sequence.kv_tokens - 1, min(sequence.kv_tokens, sequence.target_tokens))
        return sequence.kv_tokens

    def _age(self, tokens: int) -> int:
        """How long a block has been full, that so many tokens lie behind."""
        return tokens

    def end(self, sequences: list[Sequence], step: int) -> None:
        """Free the blocks of those who ended, in order of admission."""
        if not self.tells_late or any(self.concerns(sequence) for sequence in sequences):
            self.tell(step, int(self._ahead))  # ahead, the next step is planned already
        if len(sequences) > 1:
            sequences = sorted(sequences, key=lambda each: each.admission)
        for sequence in sequences:
            held_tokens, sequence.slots = max(sequence.kv_tokens, sequence.slots), 0
            self.release(sequence, held_tokens)

    def stay(self, sequence: Sequence, step: int) -> None:
        """As any; all of its full blocks can be found from now on."""
        self.tell(step, 0)
        self._tells_no_more(sequence)
        self.fill(sequence, sequence.kv_tokens)

    def _tells_no_more(self, sequence: Sequence) -> None:
        if sequence in self._tellers:
            del self._tellers[sequence]
            self._telling.end(sequence, self._homes, self._texts.number)

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """As any; but what was computed can be found again, by this request alone if need be."""
        known = sequence.kv_tokens
        if self._ahead and known > sequence.target_tokens:
            known, sequence.kv_tokens = held_tokens - 1, held_tokens
        full = known // self.block_size
        if full > told(sequence):
            own = own_stream(sequence)
            if sequence.spans and sequence.spans[-1][0] == own:
                sequence.spans.pop()
            sequence.spans.append((own, full))
        self.tell(step, 0)
        sequence.kv_tokens = known
        self._tells_no_more(sequence)
        self.fill(sequence, known)

    def release(self, sequence: Sequence, held_tokens: int) -> None:
        """Free named blocks, full ones without a name behind them, and what is not full."""
        self._tells_no_more(sequence)
        self.fill(sequence, sequence.kv_tokens)
        self._settle()
        full = sequence.kv_tokens // self.block_size
        unnamed, unhashed = full - sequence.named_blocks, self.blocks(held_tokens) - full
        freed = unnamed + unhashed
        if unhashed and self._unhashed_first:
            self._queue.put_first(Run(ANONYMOUS, 0, unhashed, 0, False))
        else:
            unnamed += unhashed
        if unnamed:
            self._queue.append(Run(ANONYMOUS, 0, unnamed, 0, False))
        for run in reversed(held_runs(sequence)):
            run.holders -= 1
            if not run.holders:
                run.rest = None
                self._queue.append(run)
                freed += run.count
        sequence.held, sequence.named_blocks = [], 0
        self._queued += freed
        self.give(freed)

    def watch(self, homes: Homes, number: int) -> None:
        """Note from now on which streams have blocks here, as those of a replica."""
        self._homes = homes
        self._texts.homes, self._texts.number = homes, number

    def cached_blocks(self, text: Spans, most: int) -> int:
        """Find the blocks of the longest known beginning of a text, as ``find``; hold none.

        Args:
            text: streams, and behind which of its tokens each of them ends.
            most: blocks.
        """
        self._texts.saw_free = False
        return self._texts.beginning(text, self.block_size, most)

    @property
    def saw_free(self) -> bool:
        """Whether ``cached_blocks`` last saw a block that nobody holds: it may be taken by now."""
        return self._texts.saw_free

    def spares(self, taken: int) -> bool:
        """Tell whether the next ``taken`` free blocks, beyond those counted, have no identity."""
        surplus, first = self._queued - self.free + taken, self._queue.first()
        return surplus <= 0 or (first.stream == ANONYMOUS and first.count >= surplus)

    def settle(self, taken: int) -> bool:
        """Let blocks that were taken leave the queue, ``taken`` that are not counted yet included.

        Returns whether there were any.
        """
        before = self._queued
        self._settle(taken)
        return self._queued < before

    def _settle(self, taken: int = 0) -> None:
        """Let the blocks that were taken leave the queue, with their identities.

        ``take`` only counts, so that decoding costs what it costs without a cache.
        """
        surplus = self._queued - (self.free - taken)
        if surplus <= 0:
            return
        self._queued = self.free - taken
        self._texts.take_first(surplus)

    def check_cache(self, running: list[Sequence]) -> None:
        """Compare holders and queue with what the requests hold, run by run.

        Raises:
            AssertionError: names what disagrees.
        """
        self._settle()
        free = self._queue.runs()
        check_holders(running)
        queued = sum([run.count for run in free])
        if not queued == self._queued == self.free:
            raise AssertionError(f"{queued} blocks are queued, {self.free} are free")
        check_known(self._texts.everyone(), running, free)
