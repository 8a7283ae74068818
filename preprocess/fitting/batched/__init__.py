"""Fits a head model to many images in one call, on any device.

This is a public tool for people who label pictures by the thousand and already have landmarks (`docs/datasets.md`);
`benchmarks/batch_fit.py` and `benchmarks/synthetic_fit.py` measure it. It shares configuration, priors and landmark
tables with the fit of single frames in `preprocess.fitting`; only the linear algebra differs.

`portrait4d data` does not use it: there a worker has one core and one file at a time, on which this fit takes 1.5 times
(a photo) to 2 times (a clip) as long and leaves landmarks 1 to 3 % farther off. A device that fits whole batches while
workers find faces might be faster. That has not been measured, and an option without a measurement would promise a
speed that may not exist.
"""
