#!/bin/bash
# Two boards and a witness: the witness is lost, and nothing happens. Then the board that owns the guest is lost, and two votes are enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up two.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 2 --running --led

hearth lab kill witness
sleep 3
hearth lab restart witness
sleep 2
hearth drill until web --members 2 --running --led

owner=$(hearth drill owner web)
hearth lab kill "$owner"
hearth drill until web --running --not-owner "$owner" --led
hearth lab restart "$owner"
hearth drill until web --members 2 --running --led --boots 2
sleep 2
hearth drill judge --stall 4s --boots 2
