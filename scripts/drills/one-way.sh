#!/bin/bash
# The board that owns the guest hears nobody, but all hear it: its lease ends, and the guest moves. Then the other direction.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
hearth lab faults "$owner" --to --cut
hearth drill until web --running --not-owner "$owner" --led
sleep 2
hearth lab heal "$owner"
hearth drill until web --members 3 --running --led --boots 2

owner=$(hearth drill owner web)
hearth lab faults "$owner" --from --cut
hearth drill until web --running --not-owner "$owner" --led
sleep 2
hearth lab heal "$owner"
hearth drill until web --members 3 --running --led --boots 3
sleep 2
hearth drill judge --stall 6s --boots 3
