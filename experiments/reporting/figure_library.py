"""matplotlib, loaded for drawing alone.

As it loads, it works out which keywords ``set`` of each kind of artist takes, and writes them into
docstrings: more than a quarter of the time that it takes. Whoever loads it here reads none of them.
"""

from importlib import import_module

from matplotlib import artist as artists

_described = artists.kwdoc
artists.kwdoc = lambda artist: ""
try:
    import_module("matplotlib.ticker")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
finally:
    artists.kwdoc = _described

__all__ = ["Figure", "FigureCanvasAgg"]
