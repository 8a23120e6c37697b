"""One file a loss. [keras.ops]"""
