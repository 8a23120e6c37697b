"""Statistics of past behaviour. A numpy core, with Spark around it. [numpy, spark]"""
