#!/bin/bash
# Pulls the plug of the board that owns the guest. Another board starts it by itself; the board may come back later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
hearth lab kill "$owner"
hearth drill until web --running --not-owner "$owner" --led
sleep 2

hearth lab restart "$owner"
hearth drill until web --members 3 --running --led --boots 2
sleep 2
hearth drill judge --stall 4s --boots 2
