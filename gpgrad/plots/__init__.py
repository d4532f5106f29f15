"""Pictures, with their data beside them. Imports no jax; matplotlib only when something is drawn."""

from gpgrad.plots.curves import Band, Centre, Line, Panel, band, learning_curves, steps_text, write_data
from gpgrad.plots.grids import Grid, heat_maps, write_grids
from gpgrad.plots.style import COLOURS, COLUMN, PAGE, PANEL_HEIGHT, installed, require, save

__all__ = [
    "COLOURS",
    "COLUMN",
    "PAGE",
    "PANEL_HEIGHT",
    "Band",
    "Centre",
    "Grid",
    "Line",
    "Panel",
    "band",
    "heat_maps",
    "installed",
    "learning_curves",
    "require",
    "save",
    "steps_text",
    "write_data",
    "write_grids",
]
