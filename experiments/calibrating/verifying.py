"""A real engine with drafts: a small decoder guesses, the large one verifies, greedily.

It computes the batches of the simulator's own scheduler. Which drafts are right is found out here,
step by step; the scheduler was told beforehand (``accepted_drafts``), and has to be told the same.
"""

from array import array

import torch

from model.torch.decoder import Decoder
from model.torch.generation import generate
from model.torch.kv_cache import KVCache
from sim.engine.drafts.drafted_prefill import DraftedPrefill
from sim.engine.machine import Machine
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence


class Drafter:
    """A decoder that proposes tokens, with a cache of its own."""

    def __init__(self, decoder: Decoder, slots: int, slot_tokens: int) -> None:
        self.decoder = decoder
        self.cache = decoder.new_cache(slots, slot_tokens)
        self._past: dict[int, int] = {}

    def propose(self, slot: int, tokens: list[int], drafts: int) -> list[int]:
        """Return the likeliest continuation of a sequence, token by token.

        What was written for drafts that turned out wrong is written over.
        """
        past, found = self._past.get(slot, 0), list[int]()
        for _ in range(drafts):
            ids = torch.tensor([*tokens, *found][past:])
            logits = self.decoder.step(self.cache, [(slot, ids, past)])
            past = len(tokens) + len(found)
            found.append(int(logits[0].argmax()))
        self._past[slot] = len(tokens)
        return found

    def forget(self, slot: int) -> None:
        """A sequence leaves its slot, or is computed anew."""
        self._past.pop(slot, None)


def accepted_drafts(
    target: Decoder, draft: Decoder, prompt: list[int], output_tokens: int, drafts: int
) -> tuple[list[int], bytes]:
    """Return an answer without drafts, and how many are right behind each of its tokens.

    Args:
        target: whose answer it is, the likeliest token each time.
        draft: what guesses it.
        prompt: token ids.
        output_tokens: of the answer.
        drafts: at a time.
    """
    ((*text,),) = generate(target, [prompt], output_tokens + drafts)
    drafter = Drafter(draft, 1, len(prompt) + len(text))
    right = bytearray(output_tokens)
    for place in range(1, output_tokens):
        proposed = drafter.propose(0, prompt + text[:place], drafts)
        for guess, token in zip(proposed, text[place:], strict=False):
            if guess != token:
                break
            right[place] += 1
    return text[:output_tokens], bytes(right)


class Verifying(Machine):
    """Computes every batch: drafts, their verification, and what follows from it.

    Args:
        scheduler: whose batches they are.
        target: verifies, with one slot of its cache for each sequence.
        draft: guesses.
        prompts: token ids of every request.
        slot_tokens: of the longest sequence, drafts under way included.

    Attributes:
        answers: tokens of every request.
        accepted: by request, drafts that were right, with the tokens that were there before.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        target: Decoder,
        draft: Decoder,
        prompts: list[list[int]],
        slot_tokens: int,
    ) -> None:
        if not isinstance(scheduler, DraftedPrefill):
            raise TypeError(f"{type(scheduler).__name__} makes no drafts, expected one that does")
        self.scheduler = scheduler
        self.target, self.drafts = target, scheduler.drafting.tokens
        self.prompts = prompts
        self.cache: KVCache = target.new_cache(len(prompts), slot_tokens)
        self.drafter = Drafter(draft, len(prompts), slot_tokens)
        self.answers: list[list[int]] = [[] for _ in prompts]
        self.accepted: list[list[tuple[int, int]]] = [[] for _ in prompts]

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """See ``Machine``: one step, which takes a second here."""
        spans = [self._chunk(*each) for each in zip(batch.prefills, batch.chunks, strict=True)]
        decoding = [each for each in self.scheduler.decodes() if each.rows]
        spans += [self._drafted(sequence) for sequence in decoding]
        logits = self.target.step(self.cache, spans, every_row=True)
        rows = iter(torch.split(logits.argmax(-1), [len(ids) for _, ids, _ in spans]))
        for sequence, (chunk, past) in zip(batch.prefills, batch.chunks, strict=True):
            target = sequence.target_tokens
            sampled = next(rows)
            if past + chunk >= target:
                self.answers[sequence.request].append(int(sampled[target - past - 1]))
        for sequence, (_, ids, _) in zip(decoding, spans[len(batch.chunks) :], strict=True):
            self._verify(sequence, ids.tolist()[1:], next(rows).tolist())
        ends_s.append(start_s + 1.0)
        return start_s + 1.0

    def _text(self, sequence: Sequence) -> list[int]:
        return self.prompts[sequence.request] + self.answers[sequence.request]

    def _chunk(self, sequence: Sequence, chunk: tuple[int, int]) -> tuple[int, torch.Tensor, int]:
        tokens, past = chunk
        if not past:
            self.drafter.forget(sequence.request)
        text = self._text(sequence)[past : past + tokens]
        return sequence.request, torch.tensor(text + [0] * (tokens - len(text))), past

    def _drafted(self, sequence: Sequence) -> tuple[int, torch.Tensor, int]:
        """The last token, and what the drafter makes of it."""
        text = self._text(sequence)
        proposed = self.drafter.propose(sequence.request, text, self.drafts)[: sequence.rows - 1]
        return sequence.request, torch.tensor([text[-1], *proposed]), len(text) - 1

    def _verify(self, sequence: Sequence, proposed: list[int], sampled: list[int]) -> None:
        """Take drafts as long as the target would have said the same, and its own token."""
        answer = self.answers[sequence.request]
        right = 0
        while right < len(proposed) and proposed[right] == sampled[right]:
            right += 1
        self.accepted[sequence.request].append((len(answer), right))
        left = sequence.output_tokens - len(answer)
        answer += sampled[: min(right + 1, left)]
