"""Diffusion, told in four nouns that never mix.

- `schedule`: a list of noise levels;
- `process`: what noise does to data, and how a network's output is read;
- `samplers`: how to walk from noise to data with any denoiser;
- `guidance`: denoisers made from denoisers.

The network itself lives elsewhere: here it is anything that maps (x_t, t) to an output.
"""
