"""Runs side by side on one self-contained page, made from the files of their directories."""

from stillhouse.report.comparison.writing import compare

__all__ = ["compare"]
