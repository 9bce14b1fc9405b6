"""Where the records of a JSON document are: in a list, under a key, in columns, among spans."""

from collections.abc import Iterator, Mapping
from typing import Any

from workloads.traces.errors import TraceError
from workloads.traces.formats import recognised, unread
from workloads.traces.session_documents import (
    is_llmservingsim,
    is_weka,
    llmservingsim_records,
    weka_records,
)

GUIDELLM_GROUPS = ("successful", "incomplete", "errored")


def records_of(document: object, *, alone: bool) -> Iterator[object]:
    """Yield the records of a document; one of lines (not ``alone``) is mostly a record itself."""
    if isinstance(document, list):
        yield from document
    elif not isinstance(document, dict):
        yield document
    elif is_weka(document):
        yield from weka_records(document)
    elif is_llmservingsim(document):
        yield from llmservingsim_records(document)
    elif "resourceSpans" in document:
        yield from _spans(document)
    elif _lists_of_records(document.get("benchmarks")):
        yield from _guidellm(document["benchmarks"])
    elif columns := _columns(document):
        yield from _rows_of(columns)
    elif unread(document):
        yield document
    elif alone and (lists := [one for one in document.values() if _lists_of_records(one)]):
        if len(lists) > 1 and recognised(list(document)) is None:
            raise TraceError("holds several lists of records, expected one")
        yield from (lists[0] if recognised(list(document)) is None else [document])
    else:
        yield document


def _lists_of_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _columns(document: Mapping[str, Any]) -> dict[str, list[object]] | None:
    """Return the columns of a document that holds a format's, each as a list or by row number.

    Further lists that are as long come along, shorter ones (as of each answer's parts) do not.
    """
    columns: dict[str, list[object]] = {}
    for key, value in document.items():
        if isinstance(value, list):
            columns[key] = value
        elif isinstance(value, dict) and value and all(map(str.isdecimal, value)):
            columns[key] = list(value.values())
    form = recognised(list(columns)) if len(columns) > 1 else None
    if form is None:
        return None
    needed = {name: len(columns[form.named(name)]) for name in form.columns()}
    if len(set(needed.values())) > 1:
        lengths = ", ".join(f"{name} {length}" for name, length in needed.items())
        raise TraceError(f"columns differ in length: {lengths}")
    rows = needed[form.prompt]
    return {name: values for name, values in columns.items() if len(values) == rows}


def _rows_of(columns: dict[str, list[object]]) -> Iterator[dict[str, object]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _guidellm(benchmarks: list[dict[str, Any]]) -> Iterator[object]:
    """Yield the requests of every benchmark, in turn, each with the group that it is in."""
    for benchmark in benchmarks:
        requests = benchmark.get("requests")
        if not isinstance(requests, dict):
            raise TraceError("a benchmark without requests, expected guidellm's full JSON output")
        for group in GUIDELLM_GROUPS:
            for request in requests.get(group) or ():
                yield {**request, "status": group} if isinstance(request, dict) else request


def _spans(document: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Yield the spans of an OTLP/JSON document, attributes as a mapping."""
    try:
        for resource in document["resourceSpans"]:
            for scope in resource.get("scopeSpans", ()):
                for span in scope.get("spans", ()):
                    attributes = {
                        pair["key"]: next(iter(pair["value"].values()), None)
                        for pair in span.get("attributes", ())
                    }
                    yield {**span, "attributes": attributes}
    except (AttributeError, KeyError, TypeError):
        raise TraceError("resourceSpans are not as OTLP/JSON has them") from None
