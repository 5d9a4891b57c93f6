#!/bin/bash
# Frames come damaged, doubled and out of order. They are dropped or taken for what they are, and the guest stays where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
for board in alpha beta gamma; do
    hearth lab faults "$board" --corrupt 5% --duplicate 10% --reorder 10% --hold 2ms
done
sleep 20
hearth lab heal
hearth drill until web --members 3 --running --led --owner "$owner"
sleep 2
hearth drill judge --stall 2s --boots 1
