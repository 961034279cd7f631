"""The demo model: a small trained Wan-family checkpoint, its recipe and its evaluation.

checkpoint/  the weights, a folder that `sglang generate` and vanilla diffusers load
train.py     `python -m demo.train STAGE --work DIR` trains them again
evaluate.py  `python -m demo.evaluate --out DIR` measures them on prompts never trained on
"""
