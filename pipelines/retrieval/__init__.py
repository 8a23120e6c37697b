"""Embeddings and top-K. [numpy]"""
