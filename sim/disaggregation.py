"""Prefill and decode on different replicas, as llm-d and vLLM's NixlConnector order events.

::

    arrives   -> the decoding replica (sink) is chosen; a decider looks at how much of the prompt
                 that lacks; if little: it serves the request alone. Else a prefilling one (source)
    prefilled -> the source's first token is thrown away, its blocks stay. The answer goes back
                 through the API, and the request through it to the sink
    admitted  -> when the sink has blocks for the whole prompt, it reads what it lacks
    loaded    -> the source may free its blocks; the sink computes the last token of the prompt
                 again, which is the client's first token

Who gives up while the prompt is computed takes it along; on the way to the sink the blocks stay
until their lease ends; later the source is told at once, or when nobody reads them any more.
"""

from collections.abc import Sequence as SequenceOf

from sim.caches import block_groups
from sim.clock import Clock
from sim.engine.agenda import ANSWER, DELIVERY, TRANSFER
from sim.engine.any_replica import AnyReplica
from sim.engine.caches.block_groups import seen_blocks
from sim.engine.loads import Connector
from sim.engine.sequence import Sequence
from sim.recording.handovers import Handover
from sim.recording.run import Recorder
from sim.routers.router import Router
from sim.settings.kv_transfer import KvTransferConfig, Link, last_tokens, link_of
from sim.settings.pools import DECODE, PREFILL, Pool
from sim.settings.scenario import ApiTime
from sim.sight import show_replicas
from sim.traffic.dispatch import NOBODY, Dispatch, nowhere, tokens_of
from sim.traffic.sending import Sending
from sim.transfers import Transfers


class Route:
    """A router over some of the replicas, which it knows by places of its own."""

    def __init__(self, router: Router, numbers: SequenceOf[int]) -> None:
        self.router = router
        self.numbers = numbers
        self._places = {number: place for place, number in enumerate(numbers)}
        longest = router.view.longest_request_tokens
        self.longest = dict(zip(numbers, longest, strict=True))
        """Tokens of the longest request that each takes."""

    def choose(self, sequence: Sequence) -> int:
        """Return the number of a replica. Raises ValueError."""
        place = self.router.choose(sequence)
        if not 0 <= place < len(self.numbers):
            raise nowhere(place, len(self.numbers))
        return self.numbers[place]

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""
        self.router.view.sent(self._places[number])
        self.router.sent(self._places[number])

    def unsent(self, number: int, tokens: int) -> None:
        """So many tokens more, or less, are only with its API."""
        self.router.view.unsent(self._places[number], tokens)

    def left(self, number: int, sequences: list[Sequence]) -> None:
        """These requests have left it."""
        place, count = self._places[number], len(sequences)
        self.router.view.left(place, count)
        self.router.left(place, count)
        if self.router.follows:
            self.router.gone(place, sequences)


class Disaggregated(Dispatch):
    """Decides what becomes of requests where pools have roles.

    Args:
        clock: of the simulation.
        decode: chooses who answers.
        prefill: chooses who computes a prompt.
        recorder: of outcomes, and of handovers.
        replicas: by number.
        pools: of each replica.
        config: of transfers.
        api: what lies between a client and a replica, and between the two replicas of a request.
    """

    def __init__(
        self,
        clock: Clock,
        decode: Route,
        prefill: Route,
        recorder: Recorder,
        replicas: dict[int, AnyReplica],
        pools: SequenceOf[Pool],
        config: KvTransferConfig,
        api: ApiTime,
    ) -> None:
        longest = decode.router.view.longest_request_tokens
        sending = Sending(recorder.outboxes, api.output_s, recorder.replicas)
        super().__init__(clock.agenda, decode.router, longest, recorder.outcomes, replicas, sending)
        self.clock = clock
        self._decode, self._prefill = decode, prefill
        self._pools, self._config, self._api = pools, config, api
        groups = {pool.name: block_groups(pool) for pool in pools}
        self._groups = [groups[pool.name] for pool in pools]
        self._left_out = [last_tokens(pool) for pool in pools]
        self._handovers = recorder.begin_handovers()
        self._of: dict[Sequence, Handover] = {}  # of requests that have not left
        self._prompts: dict[Sequence, Handover] = {}  # of those whose prompt is computed
        self._lent: set[Sequence] = set()  # prompts whose blocks are to stay
        self._to_load: dict[Sequence, Handover] = {}  # of those that the sink is to load
        self._links_of: dict[tuple[int, int], Link] = {}
        self._transfers = Transfers(clock, self._loaded)

    def show(self) -> None:
        """Let the routers see their replicas, all of which are there."""
        for route in (self._decode, self._prefill):
            show_replicas(route.router, self.replicas, route.numbers)

    def connector(self, number: int) -> Connector | None:
        """Return what connects a replica's scheduler with the others; None: nothing does."""
        role = self._pools[number].role
        if role == PREFILL:
            return Source(self._lent)
        return Sink(self, number) if role == DECODE else None

    def arrives(self, sequence: Sequence) -> int:
        """See ``Dispatch``: its replica is the one that answers."""
        tokens = sequence.prompt_tokens + sequence.output_tokens
        decode, prefill = self._decode, self._prefill
        if tokens > self.most:
            return self.rejected(sequence)
        sink = decode.choose(sequence)
        if tokens > decode.longest[sink]:
            return self.rejected(sequence)
        decode.sent(sink)
        source = prefill.choose(sequence) if self._hands_over(sequence, sink) else NOBODY
        if source == NOBODY or sequence.prompt_tokens + 1 > prefill.longest[source]:
            self.replicas[sink].submit(sequence)
            return sink
        prefill.sent(source)
        tokens = sequence.prompt_tokens - self.left_out(sequence, sink)
        prompt = Sequence(sequence.request, sequence.arrival_s, tokens, 1, sequence.priority)
        handover = Handover(sequence, prompt, source, sink)
        self._of[sequence] = self._prompts[prompt] = handover
        self._lent.add(prompt)
        self.replicas[source].submit(prompt)
        return sink

    def _hands_over(self, sequence: Sequence, sink: int) -> bool:
        if self._pools[sink].role != DECODE:
            return False
        if self._config.non_cached_tokens is None:
            return True
        cached = self.replicas[sink].cached_tokens(sequence)
        return self._config.disaggregates(sequence.prompt_tokens - cached)

    def finished(self, finished: list[Sequence], number: int, now_s: float) -> None:
        """See ``Dispatch``; of a replica that prefills: prompts are computed, now."""
        if self._pools[number].role == PREFILL:
            self.is_turn_of(number, now_s)
            for prompt in finished:
                self._prefilled(self._prompts.pop(prompt, None), now_s)
            self.outcomes.finished([], number, now_s)  # its journal may be full
            return
        for sequence in finished:
            if (handover := self._of.pop(sequence, None)) is not None:
                self._handovers.note(handover)
        super().finished(finished, number, now_s)

    def given_up(self, sequence: Sequence, number: int) -> None:
        """See ``Dispatch``: wherever it is."""
        handover = self._of.pop(sequence, None)
        if handover is not None and self._leaves_source(handover):
            self.left(number, [sequence])
        else:
            super().given_up(sequence, number)
        if handover is not None:
            self._handovers.note(handover)

    def stop(self) -> None:
        """The clock has stopped: note whom no decoding replica has."""
        for sequence, handover in self._of.items():
            self._handovers.note(handover)
            if not handover.handed_s >= 0:
                _as_at_source(handover)
                self.outcomes.unfinished(sequence, handover.sink)
        self._of.clear()

    def _leaves_source(self, handover: Handover) -> bool:
        """Drop one that the sink does not have yet; say whether it was one."""
        if handover.handed_s >= 0:
            return False
        handover.gone = True
        _as_at_source(handover)
        source = self.replicas[handover.source]
        if handover.prefilled_s >= 0:
            over_s = max(handover.prefilled_s + self._config.kv_lease_duration, self.clock.now)
            event = self.clock.at(over_s, TRANSFER)
            event.callbacks.append(lambda _: source.tell(handover.prompt))
        else:
            del self._prompts[handover.prompt]
            self._lent.discard(handover.prompt)
            source.abort(handover.prompt)
            self._prefill.left(handover.source, [handover.sequence])
        return True

    def _prefilled(self, handover: Handover | None, now_s: float) -> None:
        if handover is None:  # it was given up during its last step
            return
        handover.prefilled_s = now_s
        prompt, (groups, states) = handover.prompt, self._groups[handover.source]
        handover.kept_blocks = states + seen_blocks(groups, 0, prompt.prompt_tokens, prompt.slots)
        _as_at_source(handover)
        api, sequence = self._api, handover.sequence
        answered_s = now_s + api.output_s
        if answered_s == now_s:
            self._prefill.left(handover.source, [sequence])
        else:
            self._prefill.unsent(handover.source, tokens_of([handover.prompt]))
            self.agenda.call_at(answered_s, ANSWER, lambda: self._prompt_answered(handover))
        handed_s = api.reached_s(answered_s, sequence.prompt_tokens)
        if handed_s == now_s:
            self._handed(handover)
        else:
            event = self.clock.at(handed_s, DELIVERY)
            event.callbacks.append(lambda _: self._handed(handover))

    def _prompt_answered(self, handover: Handover) -> None:
        """The source's API has sent its answer, now."""
        self._prefill.unsent(handover.source, -tokens_of([handover.prompt]))
        self._prefill.left(handover.source, [handover.sequence])

    def _handed(self, handover: Handover) -> None:
        """The sink has the request, now."""
        if handover.gone:
            return
        sequence = handover.sequence
        sequence.arrival_s = handover.handed_s = self.clock.now
        self._to_load[sequence] = handover
        self.replicas[handover.sink].submit(sequence)

    def is_to_load(self, sequence: Sequence) -> bool:
        """Tell whether another replica has the cache of a prompt, and nobody has read it."""
        return sequence in self._to_load

    def left_out(self, sequence: Sequence, sink: int) -> int:
        """Return how many tokens of a prompt are left to the decoding replica."""
        tokens = self._left_out[sink]
        return tokens if sequence.prompt_tokens > tokens else 0

    def load(self, sequence: Sequence, past: int, now_s: float) -> None:
        """The sink has blocks for the whole prompt; those of its first ``past`` tokens are full."""
        self.clock.now_is(now_s)
        handover = self._to_load.pop(sequence)
        source, sink = handover.source, handover.sink
        loaded = sequence.prompt_tokens - self.left_out(sequence, sink)
        blocks = seen_blocks(self._groups[sink][0], past, loaded)
        link = self._link(source, sink)
        sequence.cached_tokens = handover.prompt.cached_tokens
        handover.blocks_s = now_s
        handover.transferred_tokens = loaded - past
        handover.transferred_bytes = link.bytes_of(blocks)
        self._transfers.begin(handover, link, blocks, now_s)

    def dropped(self, sequence: Sequence) -> None:
        """The sink drops a request before it has loaded anything."""
        handover = self._to_load.pop(sequence, None)
        if handover is not None:
            now_s = max(self.clock.now, self.replicas[handover.sink].reached_s())
            self.clock.now_is(now_s)
            self.replicas[handover.source].tell(handover.prompt)

    def _loaded(self, handover: Handover, now_s: float) -> None:
        """A transfer is over, now."""
        handover.loaded_s = now_s
        if handover.sequence not in self._of:  # it has left, and is noted already
            self._handovers.note(handover)
        self.replicas[handover.source].tell(handover.prompt)
        self.replicas[handover.sink].tell(handover.sequence)

    def _link(self, source: int, sink: int) -> Link:
        if (source, sink) not in self._links_of:
            pools = self._pools[source], self._pools[sink]
            self._links_of[source, sink] = link_of(self._config, *pools)
        return self._links_of[source, sink]

    def unsent(self, number: int, tokens: int) -> None:
        """See ``Dispatch``."""
        self._decode.unsent(number, tokens)

    def left(self, number: int, sequences: list[Sequence]) -> None:
        """See ``Dispatch``."""
        self._decode.left(number, sequences)


def _as_at_source(handover: Handover) -> None:
    """The request has spent what its prompt has spent."""
    sequence, prompt = handover.sequence, handover.prompt
    sequence.first_scheduled_s = prompt.first_scheduled_s
    sequence.computed_s, sequence.lost_s = prompt.computed_s, prompt.lost_s
    sequence.preemptions, sequence.cached_tokens = prompt.preemptions, prompt.cached_tokens


class Source(Connector):
    """Of a replica that prefills: the blocks of a computed prompt stay until they were read."""

    def __init__(self, lent: set[Sequence]) -> None:
        self._lent = lent

    def keeps(self, sequence: Sequence) -> bool:
        """Whether somebody waits for it."""
        kept = sequence in self._lent
        self._lent.discard(sequence)
        return kept


class Sink(Connector):
    """Of a replica that decodes: whole prompts can be loaded, once."""

    def __init__(self, dispatch: Disaggregated, number: int) -> None:
        self._dispatch, self._number = dispatch, number

    def matched(self, sequence: Sequence, past: int) -> int:
        """The rest of the prompt."""
        if not self._dispatch.is_to_load(sequence):
            return 0
        return sequence.prompt_tokens - self._dispatch.left_out(sequence, self._number) - past

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """Read it from where it was computed."""
        self._dispatch.load(sequence, past, now_s)

    def dropped(self, sequence: Sequence) -> None:
        """The source may free its blocks."""
        self._dispatch.dropped(sequence)
