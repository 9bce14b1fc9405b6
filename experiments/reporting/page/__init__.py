"""The report of a study as one page: its data, and how it is written."""
