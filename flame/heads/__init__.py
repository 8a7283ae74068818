"""Head models: vertices and landmarks from parameters, skinning, and the field around a posed head."""
