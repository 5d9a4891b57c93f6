#!/bin/bash
# The guest shares its board with one that works all it can. It is given a larger share, and then more than its board has left, for which it moves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT
export HEARTH_CLUSTER=shared.toml

hearth lab up shared.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led
hearth drill until busy --running

owner=$(hearth drill owner web)
[ "$(hearth drill owner busy)" = "$owner" ] || hearth migrate busy --to "$owner" --follow --patience 60
hearth scale web --weight 300
hearth scale busy --cpu-cap 60
# Its board has 40 % left.
hearth scale web --cpu-cap 80
hearth drill until web --members 3 --running --not-owner "$owner" --led
sleep 2
hearth drill judge --stall 2s --boots 1
