"""Weights in 4 and 8 bits: `grid` is how files hold them, `gptq` and `calibrate` choose them by what flows
through the model, `methods` compares the ways, `qat` is the finish for when none is good enough."""
