"""Labels, splits, the point-in-time join, and the leakage audit. [spark]"""
