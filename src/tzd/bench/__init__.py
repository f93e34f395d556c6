"""What training, sampling and starting cost: measured in turns, beside a plain baseline and the machine's own peaks.

`tzd bench` calls it; nothing else does. docs/performance.md says how each number is made.
"""
