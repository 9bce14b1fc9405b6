"""What people see of a study: statistics, tables in a terminal, pictures, and the report.

Nothing here runs a simulation. ``stats`` and ``intervals`` make numbers of runs, ``table`` and
``words`` say them, ``plots`` and ``figure_*`` draw them, ``report`` is the page.
"""
