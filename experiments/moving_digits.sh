#!/bin/sh
# Clips of moving digits: without the prior; with it in space alone, in time alone and in full, under the
# law of images; in full under the preset's law of rarer jumps; under Gaussian increments of its variance.
#   experiments/moving_digits.sh [SEED...]     seeds 0 to 4 by default
# One run for each line of the table below, into runs/moving_digits/NAME/seed-SEED; finished runs are
# kept.
set -eu
export OMP_NUM_THREADS=1
seeds=${*:-0 1 2 3 4}

space=objective.space.weight
time=objective.time.weight
both=objective.spacetime.weight

first="objective.law=Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))"

gaussian="objective.law=Brownian(sigma=0.8139)"

for names in "off full" "space time" rare gaussian; do
    for seed in $seeds; do
        for name in $names; do
            case $name in
            off) set -- "$first" objective.gamma=0 ;;
            full) set -- "$first" ;;
            space) set -- "$first" $time=0 $both=0 ;;
            time) set -- "$first" $space=0 $both=0 ;;
            rare) set -- ;;
            gaussian) set -- "$gaussian" ;;
            esac
            levyjepa train experiment=moving_digits seed="$seed" trainer.progress=false \
                run_dir="runs/moving_digits/$name/seed-$seed" "$@" || echo "$name failed" >&2
        done
    done
done
levyjepa report runs/moving_digits
