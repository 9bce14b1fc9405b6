"""matplotlib draws without the docstrings that it would write first, and is left as it was."""

import subprocess
import sys

ASKED = """
import matplotlib.artist
described = matplotlib.artist.kwdoc
signed = matplotlib.artist.Artist.__dict__["_update_set_signature_and_docstring"]
from experiments.reporting.figure_library import Figure, FigureCanvasAgg
from matplotlib.lines import Line2D
assert matplotlib.artist.kwdoc is described
assert matplotlib.artist.Artist.__dict__["_update_set_signature_and_docstring"] is signed
assert Line2D.set.__doc__ is None
assert "drawstyle" in described(Line2D)
figure = Figure()
(line,) = figure.subplots().plot([1, 2])
line.set(linewidth=3)
assert line.get_linewidth() == 3
FigureCanvasAgg(figure).draw()
print("drawn")
"""


def test_it_draws_and_does_not_describe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("drawn\n", "")
