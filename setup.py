"""Packages to install; metadata and tools live in pyproject.toml.

An allow-list keeps tests, scripts and benchmarks out of a user's site-packages. `configs/`, which stands on top of the
repository, is installed inside `portrait4d`: a package of its own would take a common name in site-packages.
"""

from setuptools import find_packages, setup

FLOORS = ["flame", "preprocess", "portrait4d", "genhead"]
CONFIGS = "portrait4d.configs"

setup(
    packages=[*find_packages(include=[pattern for floor in FLOORS for pattern in (floor, f"{floor}.*")]), CONFIGS],
    package_dir={CONFIGS: "configs"},
    package_data={
        **{floor: ["assets/*", "assets/*/*", "studio/page/*", "py.typed"] for floor in FLOORS},
        CONFIGS: ["*/*.yaml"],
    },
)
