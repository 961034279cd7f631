"""Paired benchmarks: both sides in turn in one run, medians and ratios, outputs compared."""
