"""How often a property is tried."""

from hypothesis import settings


def tries(count: int) -> settings:
    """Return the settings of so many random inputs, however long one takes; thorough: of more."""
    thorough = settings.get_current_profile_name() == "thorough"
    return settings(max_examples=max(count, 2000) if thorough else count, deadline=None)
