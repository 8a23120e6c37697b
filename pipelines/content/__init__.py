"""Raw content values to model inputs: vocabularies, hashing, normalising. [numpy]"""
