"""Many head models fitted in one call, on any device.

A public tool for people who label pictures by the thousand with landmarks they already have (`docs/datasets.md`), and
the definition that `benchmarks/batch_fit.py` and `benchmarks/synthetic_fit.py` measure. It shares configuration, priors
and landmark tables with the fit of single frames in `preprocess.fitting`; only the linear algebra differs.

`portrait4d data` does not use it, on purpose: there a worker has one core and one file at a time, with which this fit
takes 1.5 times (a photo) to 2 times (a clip) as long and leaves landmarks 1 to 3 % farther off. What would change that
is a device that fits whole batches while others find faces, which has not been measured; an option without that
measurement would promise a speed that nobody has seen.
"""
