"""Commands that read a run's folder: replay, show, report, compare, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from coordinator.cli.group import fedtide, json_option, print_json


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@json_option
def replay(folder: Path, as_json: bool) -> None:
    """Merge a campaign's recorded log again from version 0 and compare.

    Without `checkpoint.keep_log = true` there is no log: then the last checkpoint, the history, the summary and the
    model are compared with each other.
    """
    from coordinator.report.replay import replay_run
    from fl_core.factory import add_working_directory

    add_working_directory()
    result = replay_run(folder)
    if as_json:
        print_json(result)
    else:
        counted = f"{result['entries']} entries, {result['versions']} versions, {result['merged']} updates merged"
        parts = ("model", "history", "counts")
        if result["log_kept"]:
            same = "the same to the bit" if result["equal"] else "NOT the same"
            click.echo(f"{counted}: the model, the history and the counts are {same}.")
        else:
            wrong = " and ".join(part for part in parts if not result[part])
            said = f"the {wrong} CONTRADICT it" if wrong else "the model, the history and the counts agree with it"
            click.echo(
                f"The log was not kept (checkpoint.keep_log), so nothing was merged again. The last checkpoint says "
                f"{counted}: {said}."
            )
        if "why" in result:
            click.echo(result["why"])
    if not result["equal"]:
        sys.exit(1)


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option("--arg", "pairs", metavar="KEY=VALUE", multiple=True, help="Replace one of `evaluation.show_args`.")
def show(folder: Path, pairs: tuple[str, ...]) -> None:
    """What `evaluation.show` says of a finished run's model: a text sample, translations, a heat map."""
    from coordinator.report.show import read_pairs, show_run
    from fl_core.factory import add_working_directory

    add_working_directory()
    click.echo(show_run(folder, read_pairs(pairs)))


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write report.html of a finished run again: curves, staleness, workers, ledger, faults, on one page."""
    from coordinator.report.pages.page import write_report

    click.echo(write_report(folder))


@fedtide.command()
@click.argument("folders", metavar="RUN_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", "page", type=click.Path(path_type=Path), default=Path("comparison.html"), show_default=True)
@click.option("--metric", metavar="NAME", help="The score that is drawn.  [default: the first that most runs have]")
@click.option("--target", metavar="NUMBER", type=float, help="Tell when each run reached this number of it.")
@json_option
def compare(folders: tuple[Path, ...], page: Path, metric: str | None, target: float | None, as_json: bool) -> None:
    """Lay finished runs side by side on one page."""
    from coordinator.report.pages.comparison import Compared, compare_rows, write_comparison

    by = Compared(metric, target)
    if as_json:
        return print_json(compare_rows(folders, by))
    write_comparison(folders, page, by)
    return click.echo(page)


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option("--tensorboard", metavar="DIR", type=click.Path(path_type=Path), help="Write event files into DIR/RUN.")
@click.option("--mlflow", metavar="URI", help="Log to this MLflow tracking server or store.")
@click.option("--follow", is_flag=True, help="Go on until the campaign ends.")
@json_option
def export(folder: Path, tensorboard: Path | None, mlflow: str | None, follow: bool, as_json: bool) -> None:
    """A run's accuracy, loss, staleness and speed for TensorBoard or MLflow, while it runs or afterwards."""
    from coordinator.report.exports.export import export_run

    result = export_run(folder, tensorboard=tensorboard, mlflow=mlflow, follow=follow)
    if as_json:
        return print_json(result)
    return click.echo(
        ", ".join(f"{result[kind]} points to {kind}" for kind in ("tensorboard", "mlflow") if kind in result)
    )
