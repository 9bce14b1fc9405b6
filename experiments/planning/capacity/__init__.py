"""The highest load that keeps an SLO: ``kind: capacity``."""
