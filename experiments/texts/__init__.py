"""Formulas of published texts on transformer arithmetic beside the counts of this project.

Study kind ``roofline``: no clock and no simulation, tables and pictures only. ``page`` says what a
table is, ``registry`` names all of them, ``writing`` puts one into its results folder, and every
other module holds a family of tables. The counts are derived in docs/formulas.md.
"""
