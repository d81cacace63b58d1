"""`levyjepa embed`: what a network makes of pictures or of a data set."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levyjepa.cli.command import Command, add_checkpoint, device, out, say

WORDS = {"true": True, "false": False}


def _arguments(parser: ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="IMAGE|KEY=VALUE",
        help="picture files (of a network of clips: videos), or settings of the data",
    )


def _run(options: Namespace) -> int:
    from levyjepa.conf.compose import amend
    from levyjepa.data import load_source
    from levyjepa.training.checkpoint import load
    from levyjepa.training.embedding import embed
    from levyjepa.training.progress import stages

    images = [word for word in options.words if "=" not in word or Path(word).is_file()]
    lines = [word for word in options.words if word not in images]
    given = {"run_dir": "embeddings", "tokens": "false"}
    own = [line for line in lines if line.partition("=")[0] in given]
    given |= dict(line.split("=", 1) for line in own)
    if given["tokens"] not in WORDS:
        raise ValueError(f"`tokens` must be true or false, got {given['tokens']!r}.")
    data = [line for line in lines if line not in own]
    if images and any(line.startswith(("data=", "data.path=")) for line in data):
        raise ValueError(f"Either pictures or data can be embedded, got {images[0]} and {data[0]}.")
    trained = load(options.checkpoint)
    config = amend(trained.config, data)
    with stages(config.trainer.progress, "Embedding") as progress:
        found = embed(
            trained,
            images or load_source(config.data),
            config.data,
            tokens=WORDS[given["tokens"]],
            device=device(config),
            progress=progress,
        )
    if found.corrupt:
        names = ", ".join(found.corrupt[:10])
        say(f"{len(found.corrupt)} left out, which can't be decoded: {names}")
    folder = Path(given["run_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "embeddings.npz")
    held = {key: each.shape for key, each in vars(found).items() if hasattr(each, "shape")}
    shapes = ", ".join(f"{key} {shape}" for key, shape in held.items())
    out(f"written: {folder / 'embeddings.npz'}: {shapes}")
    return 0


EMBED = Command(
    "Embed picture files, or every image of a data set (the checkpoint's own, unless data=NAME or "
    "data.path=FOLDER names another), into embeddings.npz in run_dir (embeddings): embeddings "
    "(n, d) and names, of data sets also splits, labels and classes; with tokens=true the patch "
    "tokens (n, h, w, c).",
    "levyjepa embed runs/first data=folder data.path=FOLDER run_dir=runs/embedded",
    _arguments,
    _run,
)
