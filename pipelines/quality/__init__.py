"""The quality gate: sources in, clean tables and a counted quarantine out. [spark]"""
