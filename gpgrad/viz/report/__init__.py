"""Several runs on one page that needs no network: curves, tables, pictures, settings, commands, versions."""

from gpgrad.viz.report.collect import collect, differences, document
from gpgrad.viz.report.heat import heat_pictures
from gpgrad.viz.report.page import page, pictures_of

__all__ = ["collect", "differences", "document", "heat_pictures", "page", "pictures_of"]
