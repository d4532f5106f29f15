"""Figures with their data. Does not import jax, and matplotlib only when something is drawn."""

from gpgrad.plots.bars import Bar, BarPanel, bar_table, latex, write_bars
from gpgrad.plots.board import Outcomes, Scene, draw_board
from gpgrad.plots.buckets import Bucket, Member, draw_buckets, write_buckets
from gpgrad.plots.curves import Band, Centre, Line, Panel, band, learning_curves, steps_text, write_data
from gpgrad.plots.grids import Grid, by_role, heat_maps, logged_tables, write_grids
from gpgrad.plots.occupancy import draw_occupancy, write_occupancy
from gpgrad.plots.profiles import Profile, ProfilePanel, Scores, performance_profiles, profile, write_profiles
from gpgrad.plots.style import COLOURS, COLUMN, PAGE, PANEL_HEIGHT, installed, line_style, require, save, write_csv

__all__ = [
    "COLOURS",
    "COLUMN",
    "PAGE",
    "PANEL_HEIGHT",
    "Band",
    "Bar",
    "BarPanel",
    "Bucket",
    "Centre",
    "Grid",
    "Line",
    "Member",
    "Outcomes",
    "Panel",
    "Profile",
    "ProfilePanel",
    "Scene",
    "Scores",
    "band",
    "bar_table",
    "by_role",
    "draw_board",
    "draw_buckets",
    "draw_occupancy",
    "heat_maps",
    "installed",
    "latex",
    "learning_curves",
    "line_style",
    "logged_tables",
    "performance_profiles",
    "profile",
    "require",
    "save",
    "steps_text",
    "write_bars",
    "write_buckets",
    "write_csv",
    "write_data",
    "write_grids",
    "write_occupancy",
    "write_profiles",
]
