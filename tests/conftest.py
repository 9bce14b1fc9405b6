"""How hard the suite tries: the same wild inputs each time, or two thousand new ones of each kind.

``--hypothesis-profile=thorough`` looks for what the usual inputs do not find.
"""

from hypothesis import settings

settings.register_profile("thorough", max_examples=2000, derandomize=False)
settings.register_profile("repeated", derandomize=True, database=None)
settings.load_profile("repeated")
