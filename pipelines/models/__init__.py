"""Layers only. [keras.ops]"""
