#!/bin/bash
# Four boards and a witness have five votes: two boards are lost, one after the other, and the guest goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up five.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 4 --running --led

for n in 2 3; do
    owner=$(hearth drill owner web)
    hearth lab kill "$owner"
    hearth drill until web --running --not-owner "$owner" --led --boots "$n"
done
sleep 2
hearth drill judge --stall 4s --boots 3
