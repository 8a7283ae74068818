"""Packages to install; metadata and tools live in pyproject.toml.

An allow-list keeps tests, scripts and benchmarks out of a user's site-packages.
"""

from setuptools import find_packages, setup

FLOORS = ["flame", "preprocess", "portrait4d", "genhead"]

setup(
    packages=find_packages(include=[pattern for floor in FLOORS for pattern in (floor, f"{floor}.*")]),
    package_data={floor: ["assets/*", "py.typed"] for floor in FLOORS},
)
