"""`levyjepa experiment`: a paired grid of runs."""

from argparse import Namespace

from levyjepa.cli.command import Command, add_overrides, out, quieten


def _run(options: Namespace) -> int:
    from levyjepa.training.experiment import markdown, run_experiment

    quieten(options)
    result = run_experiment(options.overrides)
    from levyjepa.report import experiment_report, run_report

    done = [cell for cell in result.cells if cell.status == "finished"]
    for cell in done:
        run_report(cell.run_dir)
    out(markdown(result))
    if done:
        out(f"report: {experiment_report(result.directory)}")
    return 0 if len(done) == len(result.cells) else 1


EXPERIMENT = Command(
    "Train a paired grid of runs, then compare them; finished cells are kept. Cells run one after "
    "another, or side by side with hydra/launcher=joblib (pip install hydra-joblib-launcher; "
    "hydra.launcher.n_jobs=2), or on a cluster with hydra/launcher=submitit_slurm (pip install "
    "hydra-submitit-launcher; hydra.launcher.partition=NAME hydra.launcher.gpus_per_node=1).",
    "levyjepa experiment experiment=demo seed=0,1,2",
    add_overrides,
    _run,
)
