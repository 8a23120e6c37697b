"""Reference factors of users and items, fitted on the training period. [spark]"""
