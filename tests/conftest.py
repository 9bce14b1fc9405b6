"""How hard the suite tries: ``--hypothesis-profile=thorough`` for two thousand wild inputs."""

from hypothesis import settings

settings.register_profile("thorough", max_examples=2000, derandomize=False)
