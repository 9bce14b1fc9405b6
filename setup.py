"""Compiles the rooms that every simulated step goes through, where a compiler is there.

Without one, or with ``HEADROOM_PURE=1`` in the environment, the same files run as they are and give
the same bytes, slower. All else about the package stands in ``pyproject.toml``. In a checkout:
``python setup.py build_ext --inplace``.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from hardware.compiled import NOTE, digests  # noqa: E402 - found once the checkout is in the path

ROOMS = [
    "hardware/steps/prices.py",
    "hardware/steps/joint_prices.py",
    *sorted(
        path.relative_to(ROOT).as_posix()
        for room in ("engine", "seen", "traffic")
        for path in (ROOT / "sim" / room).rglob("*.py")
        if path.name != "__init__.py"
    ),
]

SOURCES = digests(ROOMS, ROOT)
"""As they are before they are read: what is changed while they are compiled was not compiled."""

COMPILER_OPTIONS = [
    # Fused multiply-adds, where a processor has them, would change last bits.
    "-ffp-contract=off",
    # Nobody outside puts functions in place of these: calls between them can be direct.
    "-fvisibility=hidden", "-fno-semantic-interposition",
]  # fmt: skip


OPTIMISED = "1"
"""Level of the C compiler. What a step takes is calls of Python's own C functions: W1, W2 and W4 of
``benchmarks`` take as long as at level 3, which compiles for twice as long."""
AT_ONCE = os.cpu_count() or 1
"""Compilers that run side by side."""


class BuildIfPossible(build_ext):
    """Notes what was compiled; what cannot be is left as it is, and that is said."""

    def finalize_options(self) -> None:
        """Let modules be linked side by side."""
        super().finalize_options()
        self.parallel = self.parallel or AT_ONCE

    def build_extensions(self) -> None:
        """Compile the sources of one module side by side as well: one has nearly all of them."""
        compile_all = self.compiler.compile

        def side_by_side(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                each = pool.map(partial(compile_all, **options), ([one] for one in sources))
                return [made for objects in each for made in objects]

        self.compiler.compile = side_by_side
        super().build_extensions()

    def run(self) -> None:
        """Compile the rooms, all or none."""
        try:
            super().run()
        except Exception as error:
            print(f"not compiled, the engine runs as plain Python: {error}", file=sys.stderr)
            self.extensions = []
        if self.extensions:
            folder = ROOT if self.inplace else Path(self.build_lib)
            note = folder / NOTE.relative_to(ROOT)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(SOURCES, indent=1) + "\n", encoding="utf-8")


def extensions() -> list[Extension]:
    """Return what mypyc makes of the rooms; nothing without it, or if they are to stay plain."""
    if os.environ.get("HEADROOM_PURE") == "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []
    built: list[Extension] = mypycify(
        ["--config-file=", "--strict", *ROOMS], group_name="headroom",
        multi_file=True, opt_level=OPTIMISED, debug_level="0",
    )  # fmt: skip
    for extension in built:
        extension.extra_compile_args = [*extension.extra_compile_args, *COMPILER_OPTIONS]
    return built


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildIfPossible})
