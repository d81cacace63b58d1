"""`levyjepa diagnose`: which law a frozen model's tokens follow."""

from argparse import ArgumentParser, Namespace

from levyjepa.cli.command import Command, add_overrides, out, say


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    add_overrides(parser)


def _run(options: Namespace) -> int:
    from levyjepa.report.diagnosis import short_table, write_diagnosis
    from levyjepa.training.diagnosis import diagnose_model

    found = diagnose_model(options.model, options.overrides, say)
    page = write_diagnosis(found)
    out(f"{short_table(found)}\nreport: {page}")
    return 0


DIAGNOSE = Command(
    "Ask a frozen ViT's patch tokens whether they follow a Lévy law, and which: a checkpoint or "
    "run folder, a ViT of timm (random weights, unless pretrained=true fetches its own), a "
    "transformers folder.",
    "levyjepa diagnose vit_small_patch8_224 pretrained=true data=mnist5k layers=6,12 "
    "run_dir=runs/vit",
    _arguments,
    _run,
)
