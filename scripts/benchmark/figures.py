"""Figures: a ratio per round, their median and spread, the verdict, and how they are shown."""

import statistics
from typing import Literal

import msgspec

type Verdict = Literal["met", "within the spread", "MISSED", "not measured"]


class Figure(msgspec.Struct, frozen=True):
    """A row of the budget. `values` are one per round; `note` says what the ratio was made of."""

    what: str
    values: list[float]
    budget: float
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the rounds."""
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> Verdict:
        """A budget is missed when three quarters of the rounds miss it."""
        if not self.values:
            return "not measured"
        sign = -1 if self.at_least else 1
        low, high = self.spread
        if sign * self.median <= sign * self.budget:
            return "met"
        return (
            "within the spread" if sign * (high if self.at_least else low) <= sign * self.budget else "MISSED"
        )

    def cells(self) -> list[str]:
        budget = f"{'>=' if self.at_least else '<='} {self.budget:g}{self.unit}"
        if not self.values:
            return [self.what, "-", "-", budget, self.verdict, self.note]
        low, high = self.spread
        shown = f"{self.median:.2f}{self.unit}"
        return [self.what, shown, f"{low:.2f} - {high:.2f}", budget, self.verdict, self.note]


class Cost(msgspec.Struct, frozen=True):
    """What one thing costs at one size; `growth` against the size before it."""

    what: str
    size: str
    milliseconds: float
    growth: float | None = None
    size_growth: float | None = None

    def cells(self) -> list[str]:
        grown = ["" if growth is None else f"{growth:.1f}" for growth in (self.growth, self.size_growth)]
        return [self.what, self.size, f"{self.milliseconds:.2f} ms", *grown]


FIGURE_HEAD = ["what", "median", "spread", "budget", "verdict", "made of"]
COST_HEAD = ["cost against size", "size", "CPU", "grew by", "size grew by"]


def costs(what: str, measured: list[tuple[str, float, float]]) -> list[Cost]:
    """From (label, size, seconds), smallest first."""
    rows: list[Cost] = []
    before: tuple[str, float, float] | None = None
    for label, size, seconds in measured:
        grew = (None, None) if before is None else (seconds / before[2], size / before[1])
        rows.append(Cost(what, label, seconds * 1000, *grew))
        before = label, size, seconds
    return rows


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows of text as a Markdown table with its columns lined up."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
