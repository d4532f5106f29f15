"""The wandb dashboard defined in `configs/dashboard.yaml`."""

from __future__ import annotations

from typing import Any

from gpgrad.config import presets
from gpgrad.errors import SettingError
from gpgrad.runs.logs import STEPS

COLUMNS, WIDTH, HEIGHT = 3, 8, 6  # panels per row, and their size in layout units


def workspace(entity: str, project: str) -> Any:
    """The layout as a wandb-workspaces object; `save()` uploads it. Raises SettingError without that package."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise SettingError(
            "a dashboard needs wandb-workspaces, which is not installed: pip install 'gpgrad[dashboard]'"
        ) from None
    layout = presets.read("", "dashboard")

    def panel(index: int, title: str, metrics: list[str]) -> Any:
        place = panels.interface.Layout(x=index % COLUMNS * WIDTH, y=index // COLUMNS * HEIGHT, w=WIDTH, h=HEIGHT)
        return panels.LinePlot(title=title, x=STEPS, y=metrics, layout=place)  # type: ignore[arg-type]

    def section(content: dict[str, Any]) -> Any:
        made = [panel(i, title, metrics) for i, (title, metrics) in enumerate(content.get("curves", {}).items())]
        if "media" in content:
            made.append(panels.MediaBrowser(title=content["name"], media_keys=content["media"]))
        return workspaces.Section(name=content["name"], panels=made, is_open=True)

    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=layout["name"],
        sections=[section(content) for content in layout["sections"]],
        runset_settings=workspaces.RunsetSettings(groupby=[workspaces.Metric(layout["group"])]),
    )


def save(entity: str, project: str) -> str:
    """Upload the layout to wandb and return its URL. Raises SettingError as `workspace`, or if wandb refuses."""
    made = workspace(entity, project)
    import wandb

    try:
        made.save()
    except wandb.Error as error:
        raise SettingError(f"wandb refused the dashboard: {' '.join(str(error).split())}") from error
    return made.url
