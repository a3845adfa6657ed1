"""The tests mirror the house; those in `end_to_end` run a real proxy against a simulated provider."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SAMPLES = TESTS / "samples"
