"""``fedtide new``: a project of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from coordinator.cli.group import fedtide


@fedtide.command()
@click.argument("name")
@click.option(
    "--template",
    type=click.Choice(["vision", "text", "tabular", "timeseries", "llm"]),
    default="tabular",
    show_default=True,
    help="What it begins with.",
)
def new(name: str, template: str) -> None:
    """Make a project in the folder NAME: model, data, spec, fleet and test, which run at once."""
    from coordinator.projects.project import make_project

    folder = make_project(name, template, Path())
    click.echo(f"Made {folder}. Try it:\n\n    cd {folder}\n    fedtide run campaign.toml --fleet fleet.toml")
