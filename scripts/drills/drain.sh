#!/bin/bash
# The guest's board is drained for maintenance: the guest moves to another board while it runs, and the board takes guests again afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT
export HEARTH_CLUSTER=three.toml

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
hearth drain "$owner" --wait --patience 30
hearth drill until web --members 3 --running --not-owner "$owner" --led
hearth undrain "$owner"
sleep 2
hearth drill judge --stall 2s --boots 1
