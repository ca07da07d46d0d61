"""Diffusion, told in nouns that never mix.

- `schedule`: a list of noise levels;
- `process`: what noise does to data, and how a network's output is read;
- `samplers`: how to walk from noise to data with any denoiser;
- `guidance`: denoisers made from denoisers;
- `flow`: the same walk as an ordinary differential equation;
- `likelihood`: the bits that a picture takes, by the bound and by the flow;
- `importance`: which levels to train on.

The network itself lives elsewhere: here it is anything that maps (x_t, t) to an output.
"""
