"""Searching the options of classifiers: what may be tried, what is tried next, what a trial is worth. [keras]"""
