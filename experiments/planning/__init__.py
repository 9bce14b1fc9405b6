"""Searches: the highest load that keeps an SLO, and the cheapest deployment that keeps a risk.

A search asks for runs, looks at what came out and asks for more. It is a function of what the runs
say, and runs are kept until it ends, so that a killed search goes on where it stopped.
"""
