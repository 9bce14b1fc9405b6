"""From points to a results folder: runs on this machine or a cluster, kept, resumed, published.

``sweep`` names the runs, ``local`` and ``cluster`` simulate them, ``pieces`` keeps what is
finished, ``assemble`` makes the tables, and ``publish`` puts them in place without touching
what is not ours (``folder``, ``record``, ``work_folder``).
"""
