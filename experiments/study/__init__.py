"""From a study file to points that can be run, and every complaint about it.

A file is read (``yaml_source``, ``document``, ``overrides``), its sweep becomes settings
(``grid``), and every point a checked scenario with its requests (``build``, ``points``). What is
wrong is told with file, line, key and value (``errors``, ``faults``, ``schema``).
"""
