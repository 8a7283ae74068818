"""Parts of training that depend on no network: averaged weights, lazy regularisation."""
