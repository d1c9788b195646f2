"""A graph of TensorFlow 1, run again and again: 12 inputs, four layers, some 900 allocations a step.

usage: session_run.py STEPS

Prints the seconds of CPU that the steps took, those of all threads of the process.
"""
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy
import tensorflow.compat.v1 as tf

WARM_UP = 200

tf.disable_v2_behavior()
inputs = [tf.placeholder(tf.float32, [None, 8]) for _ in range(12)]
layer = tf.concat(inputs, 1)
for _ in range(4):
    weights = tf.Variable(tf.random_normal([int(layer.shape[1]), 64]))
    layer = tf.nn.relu(tf.matmul(layer, weights))
threads = tf.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=2)
with tf.Session(config=threads) as session:
    session.run(tf.global_variables_initializer())
    feed = {each: numpy.ones((4, 8), numpy.float32) for each in inputs}
    for _ in range(WARM_UP):
        session.run(layer, feed)
    begin = time.process_time()
    for _ in range(int(sys.argv[1])):
        session.run(layer, feed)
print(f"{time.process_time() - begin:.3f}")
