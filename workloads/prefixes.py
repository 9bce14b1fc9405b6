"""Which prompts begin with the same tokens: what a prefix cache can use.

Every text from a request's first token on is a stream with a number, and a request says how many
of its tokens each of its streams tells::

    system prompt of group 3       |<-- 100 tokens -->|            stream 3 up to token 100
    prompt 37 of that group        |<------------ 566 tokens ---|  stream 47 up to token 566

Two requests with the same stream have the same tokens up to the smaller of the two ends, and the
same streams before it (numbers are given to whole chains, so this holds by construction). Nothing
is kept per token. A stream may go beyond the prompt: it then tells the answer as well.
"""

from itertools import pairwise

import numpy as np

from workloads.config import Config, Count
from workloads.requests import Ints, Prefixes


class SharedPrefixes(Config):
    """Prompts that share system prompts, and repeat.

    Request ``i`` (in order of arrival, from 0) is prompt ``i % (groups * prompts_per_group)``, and
    ``prompts_per_group`` prompts in a row are of one group. A repeated prompt is as long each time
    as at its first.
    """

    groups: Count
    """How many system prompts there are."""
    prompts_per_group: Count | None = None
    """Different prompts with one system prompt, repeated in turn. Default: no prompt is repeated,
    and request ``i`` is of group ``i % groups``."""
    shared_tokens: Count
    """Tokens of a system prompt, counted in the length of the prompt; a shorter prompt is a part of
    it."""

    def apply(self, prompt_tokens: Ints) -> tuple[Ints, Prefixes]:
        """Return the prompts' lengths, repeated ones made equal, and what they share.

        Both have a row for each of ``prompt_tokens``, shape (requests,).
        """
        rows = np.arange(len(prompt_tokens), dtype=np.int64)
        shared = np.full(len(rows), self.shared_tokens, dtype=np.int64)
        if self.prompts_per_group is None:
            return prompt_tokens, prompt_prefixes(
                prompt_tokens, prefix_id=rows % self.groups, prefix_tokens=shared
            )
        prompt = rows % (self.groups * self.prompts_per_group)
        lengths = prompt_tokens[prompt]
        return lengths, prompt_prefixes(
            lengths,
            prompt_id=prompt,
            prefix_id=prompt // self.prompts_per_group,
            prefix_tokens=shared,
        )


def prompt_prefixes(
    prompt_tokens: Ints,
    *,
    prompt_id: Ints | None = None,
    prefix_id: Ints | None = None,
    prefix_tokens: Ints | None = None,
) -> Prefixes:
    """Return the streams of prompts that are named, or begin with named texts.

    Args:
        prompt_tokens: length of each prompt, shape (requests,).
        prompt_id: equal numbers are equal prompts (of different lengths: one begins the other).
        prefix_id: equal numbers are equal beginnings, over
        prefix_tokens: so many tokens, at most the prompt. The numbers of prompts are then read
            within each beginning.

    Raises:
        ValueError: neither a prompt nor a prefix is named, a prefix has no length, or columns
            differ in length.
    """
    if prompt_id is None and prefix_id is None:
        raise ValueError("expected prompt_id, prefix_id or both")
    if (prefix_id is None) != (prefix_tokens is None):
        raise ValueError("prefix_id and prefix_tokens belong together, expected both or neither")
    columns = {"prompt_id": prompt_id, "prefix_id": prefix_id, "prefix_tokens": prefix_tokens}
    for name, values in columns.items():
        if values is not None and len(values) != len(prompt_tokens):
            raise ValueError(f"{name} has {len(values)} rows, expected {len(prompt_tokens)}")
    streams, ends, count = [], [], 0
    beginning = np.zeros(len(prompt_tokens), dtype=np.int64)
    if prefix_id is not None and prefix_tokens is not None:
        beginning = np.unique(prefix_id, return_inverse=True)[1].astype(np.int64)
        streams.append(beginning)
        ends.append(np.minimum(prefix_tokens, prompt_tokens))
        count = int(beginning.max(initial=-1)) + 1
    if prompt_id is not None:
        pairs = np.stack((beginning, prompt_id), axis=1)
        streams.append(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1) + count)
        ends.append(prompt_tokens)
    offsets = np.arange(len(prompt_tokens) + 1, dtype=np.int64) * len(streams)
    return Prefixes(
        offsets, np.stack(streams, axis=1).reshape(-1), np.stack(ends, axis=1).reshape(-1)
    )


def block_prefixes(offsets: Ints, ids: Ints, block_tokens: int, prompt_tokens: Ints) -> Prefixes:
    """Return the streams of prompts whose blocks of ``block_tokens`` tokens have identities.

    Row ``i`` owns ``ids[offsets[i]:offsets[i+1]]``; the last block may be partial. Whether two
    prompts are alike up to a block depends on all ids up to it.
    """
    lengths = np.diff(offsets)
    streams = _chains_of_ids(offsets[:-1][lengths > 0], ids)
    if streams is None:
        streams = _chains(offsets, ids)
    within = np.arange(len(ids), dtype=np.int64) - np.repeat(offsets[:-1], lengths)
    ends = np.minimum((within + 1) * block_tokens, np.repeat(prompt_tokens, lengths))
    return Prefixes(offsets, streams, ends)


def _chains_of_ids(starts: Ints, ids: Ints) -> Ints | None:
    """Number the chains of blocks, as they appear, where an id tells all that is before it.

    So it is in traces whose ids are hashes of whole prefixes: each id has one predecessor then,
    wherever it stands. None where some have several.

    Args:
        starts: places in ``ids`` at which rows begin that have any.
        ids: of the blocks of all rows.
    """
    before = np.empty_like(ids)
    before[1:] = ids[:-1]
    first = np.zeros(len(ids), dtype=bool)
    first[starts] = True
    order = np.argsort(ids, kind="stable")
    alike = ids[order][1:] == ids[order][:-1]
    begins, ends = first[order], before[order]
    told = (begins[1:] & begins[:-1]) | (~begins[1:] & ~begins[:-1] & (ends[1:] == ends[:-1]))
    if (alike & ~told).any():
        return None
    new = np.concatenate((np.ones(min(len(ids), 1), dtype=bool), ~alike))
    seen = order[new]  # where each id stands first
    number = np.empty_like(seen)
    number[np.argsort(seen)] = np.arange(len(seen))
    streams = np.empty_like(order)
    streams[order] = number[np.cumsum(new) - 1]
    return streams


def _chains(offsets: Ints, ids: Ints) -> Ints:
    """Number the chains of blocks, as they appear: each by the one before it and its own id."""
    chains: dict[tuple[int, int], int] = {}
    streams: list[int] = []
    values = ids.tolist()
    for start, stop in pairwise(offsets.tolist()):
        stream = -1
        for place in range(start, stop):
            stream = chains.setdefault((stream, values[place]), len(chains))
            streams.append(stream)
    return np.array(streams, dtype=np.int64)
