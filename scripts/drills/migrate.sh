#!/bin/bash
# The guest moves round all boards twice while it runs. Nobody outside notices more than a pause, and it never boots anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT
export HEARTH_CLUSTER=three.toml

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
for board in alpha beta gamma alpha beta gamma; do
    # It begins on one of them.
    [ "$board" = "$owner" ] || hearth migrate web --to "$board" --follow --patience 60
    owner=$board
done
hearth drill until web --members 3 --running --owner "$owner" --led
sleep 2
hearth drill judge --stall 2s --boots 1
