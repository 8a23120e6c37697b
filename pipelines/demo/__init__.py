"""A generated, seeded shop whose tastes are known: raw logs and content with planted faults. [numpy, Arrow]"""
