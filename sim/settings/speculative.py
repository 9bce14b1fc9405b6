"""Speculative decoding as a study says it, under the names of vLLM's ``speculative_config``."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hardware.engines.versions import version_key
from model.acceptance import measured_acceptance
from model.errors import one_of
from workloads.acceptance import most_length_std, rates_of_length

MOST_DRAFTS = 64
SINCE = (0, 30)
"""Version of vLLM whose scheduler of drafts ours is equal to, and later ones (docs/witness.md)."""
DRAFTING_POLICY = "chunked_prefill"
"""The one that schedules drafts."""

Method = Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"]

READS_TARGET = ("eagle", "eagle3", "mtp")
"""Methods that need the target's hidden states (``SpeculativeConfig.use_eagle``)."""
Rate = Annotated[float, Field(ge=0, le=1)]
Batch = Annotated[int, Field(gt=0, le=10**9)]
Range = tuple[Batch, Batch, Annotated[int, Field(ge=0, le=MOST_DRAFTS)]]


def _known_table(name: str) -> str:
    if name not in measured_acceptance():
        raise ValueError(one_of(name, sorted(measured_acceptance())))
    return name


class _TableNames:
    """The bundled tables, in the schema; read only where somebody asks for one."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "enum": sorted(measured_acceptance())}


TableName = Annotated[str, AfterValidator(_known_table), _TableNames()]


class SpeculativeConfig(BaseModel):
    """How drafts are made, and how many of them are right."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    method: Method
    """ngram: from the text itself, at no cost on the GPU; draft_model: a smaller model; eagle and
    eagle3: a layer behind the target's hidden states; mtp: the checkpoint's own layer for further
    tokens (DeepSeek, GLM)."""
    num_speculative_tokens: int = Field(ge=0, le=MOST_DRAFTS)
    """Drafts of each sequence in each step; they are verified in the next one. 0: none at all, for
    sweeps."""
    model: str | None = None
    """draft_model: a model as under `model`; eagle, eagle3: config.json of the head. Default of
    those two, where the target has no experts: a layer like the target's own, in 16 bits."""
    draft_vocab_size: Annotated[int, Field(gt=0, le=10**7)] | None = None
    """eagle3: tokens that the head can propose. Default: as the file says that `model` names; else
    32000, as published heads of Llama 3 have, or the target's if those are fewer."""
    rejection_sample_method: Literal["synthetic"] = "synthetic"
    """What is right is drawn with the probabilities below; no text is generated."""
    synthetic_acceptance_rates: list[Rate] | None = None
    """Probability that the first, the first two, ... drafts of a step are all right; one for each,
    not increasing (further ones are for points of a sweep with more drafts). One of this and the
    two that follow is needed."""
    synthetic_acceptance_length: Annotated[float, Field(ge=1)] | None = None
    """Mean tokens of a verified step, 1 to num_speculative_tokens + 1, with the smallest spread, as
    in vLLM: so many drafts are always right, the next one sometimes, those behind it never."""
    acceptance_table: TableName | None = None
    """Measured rates by model, method and kind of text: see docs/speculative_decoding.md. No key of
    vLLM."""
    acceptance_length_std: float = Field(default=0, ge=0)
    """Standard deviation, over requests, of their mean acceptance length: some texts are easier to
    guess than others. No key of vLLM."""
    num_speculative_tokens_per_batch_size: Annotated[list[Range], Field(min_length=1)] | None = None
    """Fewer drafts in larger batches: [from, to, drafts] by requests of the step before, from 1 on,
    0 for none. Default: always num_speculative_tokens."""
    disable_eagle_block_drop: bool = False
    """eagle, eagle3, mtp: keep the last block that the prefix cache finds. It is computed again
    otherwise, since the drafter needs what the target makes of it."""
    draft_pass_overhead_s: Annotated[float, Field(ge=0, le=1)] | None = None
    """Host time of one drafting pass, beside launches of its layers. Default: 0. No key of
    vLLM."""

    @model_validator(mode="after")
    def _says_what_is_right(self) -> Self:
        given = {
            "synthetic_acceptance_rates": self.synthetic_acceptance_rates,
            "synthetic_acceptance_length": self.synthetic_acceptance_length,
            "acceptance_table": self.acceptance_table,
        }
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            found = " and ".join(named) if named else "none of them"
            raise ValueError(
                f"{found} given, expected one of {', '.join(given)}: a study has to say how many "
                "drafts are right"
            )
        if not self.num_speculative_tokens:
            return self
        self._check_rates()
        if self.acceptance_length_std:
            most = most_length_std(self.rates)
            if self.acceptance_length_std >= most:
                raise ValueError(
                    f"acceptance_length_std = {self.acceptance_length_std:g}, expected below "
                    f"{most:g}: requests cannot differ more with this mean"
                )
        return self

    def _check_rates(self) -> None:
        tokens, rates = self.num_speculative_tokens, self.synthetic_acceptance_rates
        length = self.synthetic_acceptance_length
        if rates is not None:
            if len(rates) < tokens:
                raise ValueError(
                    f"synthetic_acceptance_rates has {len(rates)} entries, expected {tokens}: one "
                    "for each of num_speculative_tokens"
                )
            if any(after > before for before, after in pairwise(rates)):
                raise ValueError(
                    f"synthetic_acceptance_rates = {rates}, expected no entry above the one before"
                )
        elif length is not None and length > tokens + 1:
            raise ValueError(
                f"synthetic_acceptance_length = {length:g}, expected at most {tokens + 1}, with "
                f"num_speculative_tokens = {tokens}"
            )
        elif self.acceptance_table is not None:
            try:
                measured_acceptance()[self.acceptance_table].rates(tokens)
            except ValueError as error:
                raise ValueError(f"acceptance_table: {error}") from None

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        method = self.method
        if method == "draft_model" and self.model is None:
            raise ValueError("method: draft_model without model, expected the draft model")
        if method in ("ngram", "mtp") and self.model is not None:
            raise ValueError(f"model with method: {method}, expected no model beside the target")
        if method != "eagle3" and self.draft_vocab_size is not None:
            raise ValueError(f"draft_vocab_size with method: {method}, expected it with eagle3")
        if self.disable_eagle_block_drop and method not in ("eagle", "eagle3", "mtp"):
            raise ValueError(
                f"disable_eagle_block_drop with method: {method}, expected eagle, eagle3 or mtp"
            )
        return self

    @model_validator(mode="after")
    def _ranges_follow_each_other(self) -> Self:
        end = 0
        for first, last, tokens in self.num_speculative_tokens_per_batch_size or ():
            told = f"num_speculative_tokens_per_batch_size: [{first}, {last}, {tokens}]"
            if first > last or first <= end or (not end and first != 1):
                raise ValueError(f"{told}, expected ranges in order, from 1 on, none over another")
            if tokens > self.num_speculative_tokens:
                raise ValueError(
                    f"{told}, expected at most num_speculative_tokens = "
                    f"{self.num_speculative_tokens}"
                )
            end = last
        return self

    @property
    def rates(self) -> list[float]:
        """Probability that the first, the first two, ... drafts of a step are all right."""
        if self.synthetic_acceptance_rates is not None:
            return list(self.synthetic_acceptance_rates[: self.num_speculative_tokens])
        if self.synthetic_acceptance_length is not None:
            return rates_of_length(self.synthetic_acceptance_length, self.num_speculative_tokens)
        assert self.acceptance_table is not None
        return measured_acceptance()[self.acceptance_table].rates(self.num_speculative_tokens)

    def by_sequences(self, most: int) -> tuple[int, ...]:
        """Drafts behind steps of 0 to ``most`` sequences; empty: always all.

        Between ranges, and behind the last, the one before goes on, as in vLLM
        (``build_dynamic_sd_schedule_lookup``).
        """
        ranges = self.num_speculative_tokens_per_batch_size
        if ranges is None:
            return ()
        found = [0] * (most + 1)
        for first, _, tokens in ranges:
            for sequences in range(first, most + 1):
                found[sequences] = tokens
        return tuple(found)


def check_speculative(engine: Mapping[str, Any], speculative: SpeculativeConfig | None) -> None:
    """Raise ValueError if settings of an engine, with every default, do not go with drafts."""
    if speculative is None:
        return
    told = f"engine.speculative.method: {speculative.method}"
    if version_key(engine["version"])[:2] < SINCE:
        raise ValueError(
            f"{told} with version {engine['version']}, expected "
            f"{'.'.join(map(str, SINCE))} or later: drafts are modelled as they are scheduled "
            "since then"
        )
    if engine["scheduler"] != DRAFTING_POLICY:
        raise ValueError(
            f"{told} with scheduler: {engine['scheduler']}, expected {DRAFTING_POLICY}: drafts are "
            "modelled as in vLLM v1"
        )
    rows = 1 + speculative.num_speculative_tokens
    threshold = engine["long_prefill_token_threshold"]
    least = rows + int(speculative.method == "draft_model")
    if engine["max_num_batched_tokens"] < least:
        raise ValueError(
            f"engine.max_num_batched_tokens = {engine['max_num_batched_tokens']} is smaller than a "
            f"row and its drafts, expected at least {least}"
        )
    if 0 < threshold < rows:
        raise ValueError(
            f"engine.long_prefill_token_threshold = {threshold} is smaller than a row and its "
            f"drafts, expected 0 or at least {rows}"
        )
    if speculative.method == "ngram" and engine["async_scheduling"]:
        raise ValueError(
            f"{told} with engine.async_scheduling: true, expected false: vLLM looks n-grams up on "
            "the host, behind each step"
        )
