"""Routers: which replica takes an arriving request. One file each, and one row of the registry.

A router says what it looks at (``router``); what follows from that, such as whether requests may be
dealt beforehand, is decided in ``consequences`` alone.
"""
