"""Ranking and classification metrics, slices, intervals, baselines and the report. [numpy]"""
