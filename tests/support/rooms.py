"""The order of the house: its floors, and the rooms of each package."""

FLOORS = ["flame", "preprocess", "portrait4d", "genhead"]

ROOMS = {
    "flame": ["errors", "compiled", "pickles", "geometry", "landmarks", "mesh", "heads"],
    "preprocess": ["files", "media", "faces", "fitting", "tracking", "dataset"],
    "preprocess.dataset": ["records", "reading", "building", "formats", "toy", "synthetic"],
    "portrait4d": [
        *(
            "runtime",
            "train",
            "ops",
            "stylegan",
            "render",
            "weights",
            "headparts",
            "gan",
            "losses",
            "metrics",
            "evaluation",
            "scene",
            "eg3d",
        ),
        *("reconstructor", "priors", "engines", "options", "reenactment", "pipeline", "api"),
        *("live", "jobs", "studio", "cli", "__main__"),
    ],
    "genhead": [
        *(
            "config",
            "follow_numba",
            "grids_numba",
            "parts",
            "part_grids",
            "render",
            "volume",
        ),
        *("networks", "generator", "training", "synthesis", "jobs", "cli"),
    ],
}
"""The rooms of each package, from the ground up; a file on top of a package is a room of its own."""
