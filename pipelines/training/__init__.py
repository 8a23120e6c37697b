"""Input, fitting, schedules, checkpoints. [keras, tf.data]"""
