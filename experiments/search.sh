#!/bin/sh
# Looks for a setting in which the prior helps, judged on a fifth of the training images.
#   [EXPERIMENT=cifar10] [DATA=FOLDER] experiments/search.sh SEED [NAME...]
# One run for each line of the table below, into runs/search/EXPERIMENT/NAME/seed-SEED; finished runs
# are kept.
set -eu
seed=$1
shift
export OMP_NUM_THREADS=1
experiment=${EXPERIMENT:-cifar10}
case $experiment in
moving_digits) path= ;; # made on the spot
*) path="data.path=${DATA:-../shared/data/$experiment}" ;;
esac

gaussian="objective.law=Brownian(sigma=2.0039)" # the variance of `first`, the law of images
first="objective.law=Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))"
rare="objective.law=Brownian(sigma=0.25) + CompoundPoisson(rate=0.3, jumps=LaplaceJumps(alpha=1.0))"
sides="objective.stencils=[box(2),box(2,side=2),box(2,side=4)]"
lines="objective.stencils=[line(2,axis=0),line(2,axis=1)]"
mixture="objective.stencils=[box(2),diamond(),line(2,axis=0),line(2,axis=1)]"
linear=model.patch_projection=linear
tokens=model.patch_projection=none
time="objective.space.weight=0 objective.spacetime.weight=0" # of clips: lines of time alone

settings() {
    case $1 in
    base) set -- objective.gamma=0 ;;
    wide) set -- ;;
    linear) set -- $linear ;;
    tokens) set -- $tokens ;;
    linear-weak) set -- $linear objective.gamma=0.1 ;;
    linear-strong) set -- $linear objective.gamma=10 ;;
    linear-gaussian) set -- $linear "$gaussian" ;;
    linear-rare) set -- $linear "$rare" ;;
    linear-sides) set -- $linear "$sides" ;;
    linear-lines) set -- $linear "$lines" ;;
    linear-mixture) set -- $linear "$mixture" ;;
    linear-calibrated) set -- $linear objective.calibrated=true objective.gamma=0.001 ;;
    linear-coarse) set -- $linear objective.quadrature=gauss_laguerre objective.nodes=17 ;;
    linear-learnable) set -- $linear objective.learnable=true ;;
    tokens-gaussian) set -- $tokens "$gaussian" ;;
    tokens-variation) set -- $tokens objective.prior=total_variation objective.gamma=0.1 ;;
    linear-slow) set -- $linear objective.time_step=0.01 ;;
    time) set -- $time ;;
    time-rare) set -- $time "$rare" ;;
    time-slow) set -- $time objective.time_step=0.01 ;;
    base-alone) set -- objective.gamma=0 objective.kappa=0 ;;
    wide-alone) set -- objective.kappa=0 ;;
    linear-alone) set -- $linear objective.kappa=0 ;;
    tokens-alone) set -- $tokens objective.kappa=0 ;;
    linear-rare-alone) set -- $linear objective.kappa=0 "$rare" ;;
    linear-slow-alone) set -- $linear objective.kappa=0 objective.time_step=0.01 ;;
    linear-gaussian-alone) set -- $linear objective.kappa=0 "$gaussian" ;;
    base-plain) set -- objective.gamma=0 objective.kappa=0 views=plain ;;
    linear-plain) set -- $linear objective.kappa=0 views=plain ;;
    *) echo "no setting is called $1" >&2 && exit 2 ;;
    esac
    levyjepa train experiment="$experiment" "$first" ${path:+"$path"} data.holdout=0.2 seed="$seed" \
        trainer.progress=false run_dir="runs/search/$experiment/$name/seed-$seed" "$@"
}

if [ $# -eq 0 ] && [ "$experiment" = moving_digits ]; then
    set -- base linear linear-rare linear-slow linear-weak time time-rare time-slow base-alone \
        linear-alone linear-rare-alone linear-slow-alone linear-gaussian-alone
fi
[ $# -gt 0 ] || set -- base wide linear tokens base-alone linear-alone wide-alone tokens-alone \
    linear-gaussian linear-gaussian-alone linear-strong linear-weak linear-lines linear-sides \
    linear-mixture linear-rare linear-calibrated tokens-gaussian tokens-variation linear-coarse \
    base-plain linear-plain linear-learnable
for name; do
    settings "$name" || echo "$name failed" >&2
done
