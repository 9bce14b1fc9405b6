"""matplotlib, loaded for drawing alone.

As it loads, it works out which keywords ``set`` of each kind of artist takes, and writes them into
docstrings and signatures: half of the time that it takes. Whoever loads it here reads none of them.
"""

from importlib import import_module

from matplotlib import artist as artists

SIGNS = "_update_set_signature_and_docstring"
"""What each kind of artist is told as it is made."""
_described, _signed = artists.kwdoc, artists.Artist.__dict__[SIGNS]
artists.kwdoc = lambda artist: ""
setattr(artists.Artist, SIGNS, classmethod(lambda artist: None))
try:
    import_module("matplotlib.ticker")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
finally:
    artists.kwdoc = _described
    setattr(artists.Artist, SIGNS, _signed)

__all__ = ["Figure", "FigureCanvasAgg"]
