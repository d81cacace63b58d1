#!/bin/sh
# Judges the setting that was found by the test images, with seeds that the search never used.
#   [DATA=FOLDER] experiments/confirm.sh [NAME]     a name of the table below; cifar10 by default
set -eu
name=${1:-cifar10}
preset=${name%%-*}
data=${DATA:-../shared/data/$preset}
linear=model.patch_projection=linear
export OMP_NUM_THREADS=1
gaussian="objective.law=Brownian(sigma=2.0039)" # the variance of the default law
mixture="objective.stencils=[box(2),diamond(),line(2,axis=0),line(2,axis=1)]"
case $name in
cifar10 | camvid) set -- $linear ;;
cifar10-gaussian) set -- $linear objective.gamma=1 "$gaussian" ;;
camvid-gaussian) set -- $linear objective.gamma=1 objective.kappa=0 "$gaussian" ;;
cifar10-wide) set -- objective.gamma=1 ;;
cifar10-mixture) set -- $linear objective.gamma=1 objective.kappa=1 "$mixture" ;;
cifar10-plain) set -- $linear objective.kappa=0 views=plain ;;
cifar10-again) set -- $linear objective.kappa=0 seed=5,6,7,8,9 ;;
cifar10-plain-again) set -- $linear objective.kappa=0 views=plain seed=5,6,7,8,9 ;;
cifar10-plain-gaussian) set -- $linear objective.gamma=1 objective.kappa=0 views=plain "$gaussian" ;;
*) echo "$0 knows no $name" >&2 && exit 2 ;;
esac
levyjepa experiment experiment="$preset" data.path="$data" trainer.progress=false \
    run_dir="runs/$name" "$@"
