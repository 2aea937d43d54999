"""The commands under one roof, and the options that come before them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

import subtone
from subtone.cli import (
    corpus,
    doctor,
    evaluate,
    extract,
    intensity,
    models,
    predict,
    pretrain,
    recipe,
    report,
    study,
    train,
)
from subtone.cli.options import examples
from subtone.cli.outcome import DEBUG_VARIABLE

app = typer.Typer(
    name="subtone",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "subtone predict call.wav",
        "subtone predict recordings/ --per window --format csv > timeline.csv",
        "subtone recipe run sap --corpus emodb=~/data/emodb --out results/sap",
    )
    + "\n\nExit codes: 0 all done; 1 some inputs failed, the others are done; 2 wrong usage or nothing done.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subtone {subtone.__version__}")
        raise typer.Exit()


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Print the traceback of an error too.")
    ] = False,
) -> None:
    """Recognise emotion in speech: recordings to emotions, corpora to results that a reviewer believes."""
    del version
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


USE, STUDY, HELP = "Recordings", "Corpora and models", "This installation"
app.command(rich_help_panel=USE, epilog=predict.EPILOG)(predict.predict)
app.command(rich_help_panel=USE, epilog=models.EPILOG)(models.models)
app.add_typer(corpus.app, name="corpus", rich_help_panel=STUDY)
app.add_typer(recipe.app, name="recipe", rich_help_panel=STUDY)
app.command(rich_help_panel=STUDY, epilog=extract.EPILOG)(extract.extract)
app.command(rich_help_panel=STUDY, epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command(rich_help_panel=STUDY, epilog=train.EPILOG)(train.train)
app.add_typer(study.app, name="study", rich_help_panel=STUDY)
app.add_typer(intensity.app, name="intensity", rich_help_panel=STUDY)
app.command(rich_help_panel=STUDY, epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(rich_help_panel=STUDY, epilog=report.EPILOG)(report.report)
app.command(rich_help_panel=HELP, epilog=doctor.EPILOG)(doctor.doctor)


def command() -> Any:
    """The whole command line as one command object."""
    return typer.main.get_command(app)
