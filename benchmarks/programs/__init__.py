"""Whole programs: their start, time and peak memory."""
