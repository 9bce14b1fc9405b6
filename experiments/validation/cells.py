"""What cells of a table of measured runs say: numbers with units, switches, names with remarks.

People write ``1,024``, ``128.0``, ``90%``, ``6 req/s``, ``on(v1 default)`` and ``H100 (ours)``. A
cell is read only where it means one thing; the rest is left as it is, for the row to be refused
with the column's name. Nothing is guessed: ``1,5`` is no number, ``8k`` no length.
"""

import re

from model.sampling import Drawing

EMPTY = frozenset(
    {
        "", "nan", "none", "null", "nil", "n/a", "n.a.", "na", "-", "--", "---", "–", "—", "?",
        "unknown", "unspecified", "not stated", "not published", "not reported", "tbd",
    }
)  # fmt: skip
"""Cells that say nothing, in lower case."""

ENGINES_OWN = re.compile(
    r"(?:the )?(?:auto(?:matic)?|defaults?"
    r"|(?:v[01]|vllm|engine|server|version)(?:'s)?[ -]defaults?)"
)
"""Of a number: the engine's, as if the cell were empty."""

UNLIMITED = frozenset({"inf", "infinity", "infinite", "unlimited", "no limit", "∞"})
"""Of a rate or a cap: there is none."""

SIZES = ("tp", "pp", "ep", "dp_replicas", "data_parallel_size", "n_gpus")
"""Columns of group sizes, in which 0 or ``off`` says that there is no such group."""

UNITS: tuple[tuple[str, dict[str, float]], ...] = (
    (r".*_ms", {"ms": 1.0, "msec": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "\u00b5s": 1e-3,
                "\u03bcs": 1e-3}),
    (r"request_rate_rps|req_s", {"rps": 1.0, "req/s": 1.0, "reqs/s": 1.0, "requests/s": 1.0,
                                 "qps": 1.0, "/s": 1.0, "rpm": 1 / 60, "req/min": 1 / 60}),
    (r"out_tok_s", {"tok/s": 1.0, "tokens/s": 1.0, "t/s": 1.0}),
    (r"duration_s|first_request_s",
     {"s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0, "minutes": 60.0, "h": 3600.0,
      "hours": 3600.0, "ms": 1e-3}),
    (r"gpu_mem_util", {"%": 0.01}),
    (r"[io]sl_mean|max_model_len|max_num_batched_tokens|block_size",
     {"tokens": 1.0, "token": 1.0, "tok": 1.0}),
    (r"max_num_seqs|n_requests|n_failed|max_concurrency",
     {"requests": 1.0, "reqs": 1.0, "sequences": 1.0, "seqs": 1.0, "users": 1.0, "clients": 1.0,
      "prompts": 1.0}),
    (r"kv_blocks", {"blocks": 1.0}),
    (r"n_gpus|tp|pp|ep|dp_replicas|data_parallel_size",
     {"gpus": 1.0, "gpu": 1.0, "x": 1.0, "replicas": 1.0, "-way": 1.0, "way": 1.0}),
)  # fmt: skip
"""Pattern of a column's name, and the units that its numbers may carry: factors to the column's."""

_PLAIN = r"[+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_THOUSANDS = r"\d{1,3}(?:(?P<mark>[,_ '\u202f\u00a0])\d{3})(?:(?P=mark)\d{3})*(?:\.\d+)?"
_CELL = re.compile(rf"[~≈]?\s*(?P<number>{_THOUSANDS}|{_PLAIN})\s*(?P<unit>\D*)")

_OFF = re.compile(
    r"(--no-enable-[\w-]+|--enable-[\w-]+[\s=]+(false|0|no)|off|false|no(?! (info|data|mention))"
    r"|not (enabled|used|active|on|set)|none|without|w/o|disabled?|0(\.0*)?)\b"
)
_ON = re.compile(r"(--enable-[\w-]+|on|true|yes|enabled?|with|1)\b")
_REMARK = re.compile(r"\s*[(\[{]([^)\]}]*)[)\]}]")
_NUMBERLESS = re.compile(r"(?<=\S)\s*\((?:(?!(?<!\w)\d)[^()])*\)$")
"""A remark behind a number that holds no other: ``256 (v1 default)``, but not ``2 (or 4)``."""
_P50 = {"median": "p50"}
_OF_ANOTHER = re.compile(r"\((p\d+|median|max(?:imum)?|min(?:imum)?|best)\)$")
"""A remark that tells which statistic a latency is."""
_VARIANT = re.compile(r"pcie|sxm\d?|\bnvl\b|mig|\d+g\.\d+gb|\d+\s*gi?b|max-?q|super|ti\b")
"""Words in a remark that make another GPU of it."""
_COUNTED = re.compile(
    r"^\d+\s*[x×*]\s*(?=\D)|^\d{1,3}\s+(?=[a-z])(?!gi?b?\b)|(?<=\w)(?:\s+[x×*]\s*\d{1,3}|[x×*]\d{1,2})$",
    re.IGNORECASE,
)
"""How many there are, before or behind the name: ``8x H100``, ``8 H100``, ``H100 x 8``, ``H100x8``;
not the X of ``RTX 4090``."""
_COUNT_BEHIND = re.compile(
    r"[(\[{]\s*(?:[x×*]\s*(\d{1,3})|(\d{1,3})\s*(?:[x×*]|gpus?))\s*[)\]}]", re.IGNORECASE
)
"""The same as a remark: ``H100 (x4)``, ``H100 (4 GPUs)``."""
_NO_SLICE = re.compile(
    r"[(\[{]\s*mig\W*(?:mode\W*)?(?:is\W*)?(?:disabled|off|no)\W*[)\]}]", re.IGNORECASE
)
_SERVER = re.compile(r"\b(?:dgx|hgx)[\s-]+", re.IGNORECASE)
"""NVIDIA's names of servers with eight of the GPU that is named behind."""
_MEMORY = re.compile(r"(?<![a-z\d])(\d+)\s*gi?b?\b", re.IGNORECASE)


def is_empty(text: str) -> bool:
    """Tell whether a cell says nothing."""
    return " ".join(text.lower().split()) in EMPTY


def number(column: str, text: str) -> str:
    """Write a cell's number as Python does, in the column's unit; another text as it is.

    ``1,024`` is 1024, ``~500`` 500, ``90%`` of the memory 0.9, ``1.2 s`` in a column of ms 1200. A
    unit that the column's quantity does not have leaves the text as it is, and so does a comma that
    separates no thousands. A remark in brackets behind it is left out unless it has a number, too.
    """
    other = _OF_ANOTHER.search(text.strip().lower())
    if other and column.endswith("_ms") and _P50.get(other[1], other[1]) not in column:
        return text
    found = _CELL.fullmatch(_NUMBERLESS.sub("", text.strip().lower()))
    if found is None:
        return text
    unit = found["unit"].strip(" .")
    known = next((units for name, units in UNITS if re.fullmatch(name, column)), {})
    if unit and unit not in known:
        return text
    mark = found["mark"]
    plain = found["number"].replace(mark, "") if mark else found["number"]
    value = float(plain) * known.get(unit, 1.0)
    return str(int(value)) if value.is_integer() and value < 1e15 else repr(value)


COUNTS = re.compile(
    r"max_num_seqs|max_num_batched_tokens|kv_blocks|max_model_len|n_requests|n_failed|max_concurrency"
)
"""Columns of whole numbers that may be thousands."""


def two_readings(column: str, text: str) -> bool:
    """Tell whether a dot may separate thousands: ``1.000`` requests, a mean of ``2.048`` tokens."""
    if not re.fullmatch(r"\d{1,3}(?:\.\d{3})+", text):
        return False
    short = re.fullmatch(r"[io]sl_mean", column) and re.match(r"\d\.", text)
    return bool(short or COUNTS.fullmatch(column) or text.count(".") > 1)


def group_size(column: str, text: str) -> str | None:
    """Read the size of a group; None when there is none: ``0``, ``off``, ``ep=0``, ``false``."""
    names = f"{column}|dp" if column == "dp_replicas" else column
    bare = re.sub(rf"^(?:{names})\s*[=:]?\s*(?=\S)", "", text.strip().lower())
    if _OFF.fullmatch(bare):
        return None
    return number(column, bare)


def switched_on(text: str | None) -> bool | None:
    """Return what ``on(v1 default)``, ``False`` or ``enabled`` says; None if nothing."""
    words = (text or "").strip().lower()
    if _OFF.match(words):
        return False
    return True if _ON.match(words) else None


def version_in(engine: str) -> dict[str, str]:
    """Return the version behind an engine's name: ``vLLM v0.11.0``, ``vllm==0.10.2``."""
    found = re.search(r"\bvllm\W*(?:openai:)?\W*v?(\d+\.\d+[\w.+-]*)", engine.lower())
    return {"engine_version": found[1]} if found else {}


def gpu_name(text: str) -> str:
    """Return the name of a GPU without how many there are and without remarks.

    Remarks that tell GPUs apart stay: ``H100 (PCIe)`` is another GPU than ``H100``, and so is a
    slice of one.
    """
    text = _NO_SLICE.sub("", text).strip()
    kept = [word for remark in _REMARK.findall(text) for word in _VARIANT.findall(remark.lower())]
    bare = _SERVER.sub("", _COUNTED.sub("", _COUNTED.sub("", _without_remarks(text))))
    return " ".join(_MEMORY.sub(r"\1GB", " ".join([bare, *kept])).split()) or text


def gpu_count(text: str) -> str | None:
    """Return how many GPUs a cell says beside their name: 8 of ``8xH100``; None where it does not.

    None, too, of two numbers, of which one may be of nodes: ``2 x 8 H100``.
    """
    counts = [re.sub(r"\D", "", found) for found in _COUNTED.findall(_without_remarks(text))]
    counts += [before or behind for before, behind in _COUNT_BEHIND.findall(text)]
    rest = _COUNTED.sub("", _without_remarks(text))
    return counts[0] if len(counts) == 1 and not _COUNTED.search(rest) else None


def _without_remarks(text: str) -> str:
    return re.split(r"[;,]|\s[-–—/|]\s", _REMARK.sub(" ", text))[0].strip(" ?*")


def without_remark(text: str) -> str:
    """Return a word without what stands in brackets behind it: ``agg (one node)`` is ``agg``."""
    return _REMARK.sub("", text).strip() or text


_ONE_USER = (
    r"\bsynchronous\b|\bsequential(?:ly)?\b|\bback[ -]to[ -]back\b|\bone (?:request )?at a time\b"
    r"|\bone (?:after|by) (?:the other|one|another)\b|\bsingle[ -](?:stream|user|client)\b"
)
"""Words of a client that waits for each answer before it asks again."""

PROCESSES: tuple[tuple[str, str], ...] = (
    ("closed loop", r"(?<!not )\bclosed\b|\b(fixed|constant) concurrency\b"
                    r"|(?<!max )(?<!max-)\bconcurren(cy|t)\s*[=:]?\s*\d|\b\d+ concurrent\b"
                    rf"|{_ONE_USER}"),
    ("poisson", r"\bpoisson|\bexponential\b|\bmemoryless\b"),
    ("gamma", r"\bgamma\b"),
    ("constant", r"\bconstant\b|\buniform\b|\bdeterministic\b|\bfixed\b|\bconst\b|\bsteady\b"),
    ("trace", r"\btraces?\b|\breplay"),
    ("all at once", r"\b(all|everything)[ _-]at[ _-]once\b|\bat once\b"
                    r"|(?<!on/off )(?<!on-off )\bburst\b|\bbatch(ed)?\b"
                    r"|\boffline\b|\bat t\s*=\s*0\b|^inf(inite)?$"
                    r"|\bsimultaneous|\b(inf|infinite) rate\b|\brate[ =]*inf"
                    r"|^(max|maximum)( rate| throughput)?$|\bas fast as possible\b"
                    r"|^throughput(?: (mode|strategy|profile|test))?$"),
)  # fmt: skip
"""Arrival processes and the words for each; of a cell that has several, the first counts. Of
bursts, if there are many, no law is known."""

_SHAPE = re.compile(
    rf"(?P<name>burstiness|shape|\bk|\balpha|\bs?cv(?:²|\^2|2)?)\s*(?:of|[=:])\s*(?P<value>{_PLAIN})"
    rf"|(?P<word>burstiness|shape|cv)\s+(?P<after>{_PLAIN})"
)


def process_of(text: str | None) -> str | None:
    """Return which of ``PROCESSES`` the words name; None for none of them.

    ``gamma burstiness=4.0`` is gamma: burstiness is a figure of it, not a burst.
    """
    words = (text or "").lower()
    return next((name for name, pattern in PROCESSES if re.search(pattern, words)), None)


def users_in(text: str | None) -> int | None:
    """Return how many wait for their answers, by words as ``concurrency=64`` or ``8 users``."""
    words = (text or "").lower()
    if process_of(words) != "closed loop":
        return None
    found = re.search(
        r"\bconcurren(?:cy|t)\s*(?:of|[=:])?\s*(\d+)|\b(\d+) (?:users|clients|concurrent)",
        words,
    )
    if found:
        return int(found[1] or found[2]) or None
    return 1 if re.search(_ONE_USER, words) else None


_CAP = re.compile(r"\bmax(?:imum)?[ _-]concurrency\s*(?:of|[=:])?\s*(\d+)")


def cap_in(text: str | None) -> tuple[int | None, str]:
    """Return the client's cap on requests in flight that words name, and the words without it.

    ``poisson, max_concurrency=64`` is (64, ``poisson``).
    """
    found = _CAP.search((text or "").lower())
    if found is None or text is None:
        return None, text or ""
    return int(found[1]) or None, (text[: found.start()] + text[found.end() :]).strip(" ,;()+")


def burstiness_in(text: str | None) -> float | None:
    """Return the shape of gamma gaps that the words give.

    ``burstiness=4`` and ``k=4`` are 4, ``cv 2`` is 0.25, ``cv²=2`` 0.5.
    """
    found = _SHAPE.search((text or "").lower())
    value = float(found["value"] or found["after"]) if found else 0.0
    if found is None or not value:
        return None
    name = found["name"] or found["word"]
    if name == "cv":
        return value**-2
    return 1 / value if "cv" in name else value  # the square of a cv


def drawing_of(text: str) -> Drawing | None:
    """Return greedy, temperature or top_p for words about sampling; None where they say neither.

    ``temperature=0`` is greedy, ``top_p=1, top_k=-1`` cuts nothing, ``default`` says nothing.
    """
    words = text.lower().replace("-", "_") if "-1" not in text else text.lower()
    given = {
        name: float(value)
        for name, value in re.findall(
            r"\b(temp(?:erature)?|top[_ ]?p|top[_ ]?k)\b\s*(?:[=:]|of|at)?\s*(-?\d*\.?\d+)", words
        )
    }
    value = {name.replace(" ", "_")[:5]: number for name, number in given.items()}
    if re.search(r"\bgreedy|\bargmax\b", words) or value.get("tempe", value.get("temp")) == 0:
        return "greedy"
    if 0 < value.get("top_p", 1) < 1 or value.get("top_k", -1) > 1:
        return "top_p"
    if value.get("top_k") == 1:
        return "greedy"
    if value or re.search(r"\btemperature\b|\brandom\b|\bmultinomial\b", words):
        return "temperature"
    return "top_p" if re.search(r"\btop[_ ]?[pk]\b|\bnucleus\b", words) else None


_FIGURES = (
    r"timer|timing|time|latenc|ttft|tpot|itl|e2e|metric|measure|histogram|span|figure|number|stat"
    r"|percentile|queue"
)
_INSIDE = re.compile(
    rf"/metrics\b|\b(?:engine|server)[ -]side\b(?=\W*$|\W*[,;:.)]|\W*(?:{_FIGURES}))"
    r"|\b(?:otel|opentelemetry|prometheus)\b|\bvllm:\w+_(?:seconds|bucket)\b"
    r"|\bmeasured (?:inside|in|by) (?:the )?(?:engine|server|vllm)\b"
    r"|\b(?:engine|server|vllm)(?:'s)? (?:own )?(?:log|histogram|metric)s?\b"
)
_DENIED = re.compile(
    r"\b(?:no|not|without|nor|neither|never|instead of|rather than|excluding)\s+(?:\w+\s+)?$"
)
_UNUSED = re.compile(r"\W+(?:\w+\W+){0,3}?(?:not|un)\W*(?:used|available|included|read|scraped)\b")
_OF_OTHERS = re.compile(r"\b(?:gpu|dcgm|power|utili[sz]ation|util|cache usage|of the client)\b")


def measured_inside(notes: str) -> bool:
    """Tell whether notes say that the engine measured itself, not a client.

    ``engine-side``, ``OTEL spans``, ``/metrics``; not ``no engine-side timings``, ``/metrics not
    used``, or ``GPU utilisation from Prometheus``.
    """
    return any(
        not _DENIED.search(clause[: found.start()])
        and not _UNUSED.match(clause[found.end() :])
        and not (_OF_OTHERS.search(clause) and not re.search(r"ttft|tpot|itl|latenc", clause))
        for clause in re.split(r"[;\n]|\.\s", notes.lower())
        for found in _INSIDE.finditer(clause)
    )


def version_of(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers of vLLM's version in words: ``~2025-05 (vllm 0.8.x)`` is (0, 8).

    What follows the numbers says nothing: ``0.9.2rc1`` is (0, 9, 2). A number that stands alone or
    behind the engine's name is its version; of several others only one of a series 0 is, so that
    neither ``CUDA 12.8`` nor a container's ``25.06`` is taken for one.
    """
    words = (text or "").strip().lower()
    numbers = r"v?(\d+)\.(\d+)(?:\.(\d+))?"
    for pattern in (
        rf"vllm[\s:=/_-]*{numbers}",
        r"(?<![\w.-])v?(0)\.(\d+)(?:\.(\d+))?",
        r"^v?([1-9])\.(\d+)(?:\.(\d+))?(?![\d.])",
    ):
        found = re.search(pattern, words)
        if found:
            return tuple(int(part) for part in found.groups() if part is not None)
    return None
