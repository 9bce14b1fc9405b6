"""``heapq``, found at once: compiled code looks for what it imports in a dictionary each time."""

import heapq
from typing import Final

heappop: Final = heapq.heappop
heappush: Final = heapq.heappush
