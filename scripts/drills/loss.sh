#!/bin/bash
# Every link loses a fifth of all frames, in both directions. Whatever moves, there is never more than one copy, and all is well again afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

for board in alpha beta gamma; do hearth lab faults "$board" --loss 20%; done
sleep 30
hearth lab heal
hearth drill until web --members 3 --running --led
sleep 3
hearth drill judge --stall 6s
