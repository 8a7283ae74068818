"""Looks at each row of statistics, and says in words when a GAN goes wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from portrait4d.train.alarms import CollapseAlarm, Vitals

_SIGN, _GRADIENT, _DISTANCE = "augment/real_sign", "gradient/", "grid_distance"


class Watch:
    """Alarms over the rows of a run.

    Attributes:
        is_troubled: something is wrong, told now or before; a checkpoint made now may be of a spoiled network.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], alarm: CollapseAlarm | None = None) -> None:
        self.alarm = alarm or CollapseAlarm()
        self.history = [_vitals(row) for row in rows]
        self.is_troubled = bool(self.alarm.troubles(self.history))

    def look(self, row: Mapping[str, Any]) -> list[str]:
        """What a new row shows that those before did not."""
        self.history.append(_vitals(row))
        self.is_troubled = bool(self.alarm.troubles(self.history))
        return self.alarm.warnings(self.history)


def _vitals(row: Mapping[str, Any]) -> Vitals:
    norms = {name.removeprefix(_GRADIENT): float(value) for name, value in row.items() if name.startswith(_GRADIENT)}
    return Vitals(
        images_seen=int(row["images"]),
        real_sign=row.get(_SIGN),
        gradient_norms=norms,
        grid_distance=row.get(_DISTANCE),
    )
