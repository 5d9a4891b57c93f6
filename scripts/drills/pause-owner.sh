#!/bin/bash
# The board that owns the guest stalls for a minute and wakes again. Its copy of the guest is not the guest any more, and must not answer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
hearth lab pause "$owner"
hearth drill until web --running --not-owner "$owner" --led
sleep 60
hearth lab resume "$owner"
hearth drill until web --members 3 --running --led --boots 2
sleep 3
hearth drill judge --stall 4s --boots 2
