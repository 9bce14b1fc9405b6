"""Reads published tables of measured kernel times, in the layout of aiconfigurator.

    DIR/<gpu>/<operator>/<engine>/<version>/*.parquet      (latency in ms)

The same tree lies in the PyPI package ``aiconfigurator-core`` (Apache-2.0), below ``systems/data``.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hardware.engines.versions import version_key
from hardware.prices.mixer_kernels import Numbers
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame

SYSTEMS = {
    "a100-80gb-sxm": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "b300-sxm": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}
"""Folder of a GPU of the catalogue."""

NUMBERS: dict[str, Numbers] = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "nvfp4": "fp4",
    "fp8_block": "fp8_block",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_fp8",
}
"""Their names of arithmetic, and ours; what is not here has no price of its own."""


@dataclass(frozen=True, slots=True)
class Table:
    """One operator's kernel times."""

    rows: "DataFrame"
    version: str
    """Of the engine (or of NCCL) that was measured."""


def tables_folder(dir_or_package: str) -> Path:
    """Return the folder that holds one folder per GPU.

    Raises:
        ValueError: neither a folder with tables nor an installed package that brings them.
    """
    path = Path(dir_or_package)
    if not path.is_dir():
        spec = find_spec(dir_or_package.replace("-", "_")) if "/" not in dir_or_package else None
        if spec is None or spec.origin is None:
            raise ValueError(
                f"--from-kernels {dir_or_package!r} is neither a folder nor an installed package, "
                "expected the folder of the tables, or aiconfigurator-core after pip install"
            )
        path = Path(spec.origin).parent
    for folder in (path, path / "systems" / "data", path / "data"):
        if any((folder / name).is_dir() for name in SYSTEMS.values()):
            return folder
    raise ValueError(
        f"--from-kernels {dir_or_package!r}: no tables in {path}, expected folders named like "
        f"{', '.join(SYSTEMS.values())}"
    )


def read_table(folder: Path, operator: str, library: str, file: str, version: str) -> Table | None:
    """Read one table of one GPU, of the version at or below ``version``, else of the nearest above.

    Args:
        folder: of the GPU.
        operator: gemm, attention, moe or comm.
        library: vllm or nccl.
        file: name of the table, without ``.parquet``.
        version: of the engine that is to be priced.
    """
    found = read_versions(folder, operator, library, file, version)
    return Table(found[0][1], found[0][0]) if found else None


def read_versions(
    folder: Path, operator: str, library: str, file: str, version: str
) -> "list[tuple[str, DataFrame]]":
    """Read all versions of a table: that of ``version`` first, then newer and older ones."""
    rows = _versions(folder, operator, library, file)
    below = [name for name in rows if version_key(name) <= version_key(version)]
    above = [name for name in rows if name not in below]
    order = [*below[-1:], *above, *reversed(below[:-1])]
    return [(name, rows[name]) for name in order]


def read_all(folder: Path, operator: str, library: str, file: str) -> Table | None:
    """Read the tables of all versions together, with the version as a column.

    Of a shape the fastest time counts that any version has: a kernel can be timed too slow (without
    a tuned configuration, beside other work, or with conversions that an engine fuses away; the
    fp8 products of some versions were), but hardly too fast.
    """
    import pandas as pd

    rows = _versions(folder, operator, library, file)
    if not rows:
        return None
    first, last = next(iter(rows)), list(rows)[-1]
    parts = [part.assign(version=name) for name, part in rows.items()]
    version = first if first == last else f"{first} to {last}"
    return Table(pd.concat(parts, ignore_index=True), version)


def _versions(folder: Path, operator: str, library: str, file: str) -> "dict[str, DataFrame]":
    """Tables by version, ascending; those that broke off early are left out."""
    import pandas as pd

    found = (folder / operator / library).glob(f"*/{file}.parquet")
    rows = {path.parent.name: pd.read_parquet(path) for path in found}
    longest = max(map(len, rows.values()), default=0)
    names = sorted((name for name in rows if len(rows[name]) > longest / 10), key=version_key)
    return {name: rows[name] for name in names}
