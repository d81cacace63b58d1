#!/bin/sh
# The original's two experiments in full: Imagenette, ViT-S/8, 800 epochs, gamma 0 and 1, five seeds.
#   experiments/imagenette.sh                 one GPU, one run after the other
#   experiments/imagenette.sh 8               each run over the 8 GPUs of this machine
#   experiments/imagenette.sh slurm           each run a SLURM job of one GPU, all at once
# Finished runs are kept and an interrupted one goes on, so the same command may be given again.
set -eu
case ${1:-1} in
slurm)
    set -- --slurm gpus_per_node=1 --slurm cpus_per_task=9 --slurm timeout_min=720
    ;;
*[!0-9]* | '') echo "usage: $0 [GPUS|slurm]" >&2 && exit 2 ;;
*) set -- trainer.devices="${1:-1}" data.batch_size=$((96 / ${1:-1})) ;;
esac
for name in exp1 exp2; do
    levyjepa experiment experiment=$name seed=0,1,2,3,4 run_dir=runs/$name "$@"
done
levyjepa report runs/exp1 runs/exp2
