"""Numbers, tables and one self-contained page about a simulated fleet, made from the files of its folder."""

from stillhouse.report.simulation.writing import write

__all__ = ["write"]
