#!/bin/sh
# Clips of moving digits: without the prior, with it in space alone, in time alone, and in full.
#   experiments/moving_digits.sh [SEED...]     seeds 0 to 4 by default
# One run for each line of the table below, into runs/moving_digits/NAME/seed-SEED; finished runs are
# kept.
set -eu
export OMP_NUM_THREADS=1
[ $# -gt 0 ] || set -- 0 1 2 3 4

space=objective.space.weight
time=objective.time.weight
both=objective.spacetime.weight

for names in "off full" "space time"; do
    for seed; do
        for name in $names; do
            case $name in
            off) other="objective.gamma=0" ;;
            full) other= ;;
            space) other="$time=0 $both=0" ;;
            time) other="$space=0 $both=0" ;;
            esac
            # shellcheck disable=SC2086
            levyjepa train experiment=moving_digits seed="$seed" trainer.progress=false \
                run_dir="runs/moving_digits/$name/seed-$seed" $other || echo "$name failed" >&2
        done
    done
done
levyjepa report runs/moving_digits
