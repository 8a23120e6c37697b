"""Global order, tf.Example wire encoding, framing, writing and reading of TFRecords."""
