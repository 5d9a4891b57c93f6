#!/bin/bash
# A board is disarmed, as for maintenance, and its plug is pulled: nobody takes its guest over. When it is back, the guest starts again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT
export HEARTH_CLUSTER=three.toml

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
hearth disarm "$owner"
hearth lab kill "$owner"
sleep 5
hearth drill until web --owner "$owner" --led --timeout 1s
hearth lab restart "$owner"
hearth arm "$owner"
hearth drill until web --members 3 --running --led --boots 2
sleep 2
hearth drill judge --stall 30s --boots 2
