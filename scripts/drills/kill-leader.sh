#!/bin/bash
# Pulls the plug of the board that leads, while the guest is on another. Nobody but the leader is missed: the guest goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

# As long as the leader owns the guest, the guest moves first, so that only one thing happens at a time.
boots=1
while leader=$(hearth drill leader) && [ "$(hearth drill owner web)" = "$leader" ]; do
    hearth lab kill "$leader"
    hearth drill until web --running --not-owner "$leader" --led
    hearth lab restart "$leader"
    boots=$((boots + 1))
    hearth drill until web --members 3 --running --led --boots "$boots"
done
hearth lab kill "$leader"
hearth drill until web --running --led --not-leader "$leader"
sleep 2

hearth lab restart "$leader"
hearth drill until web --members 3 --running --led
sleep 2
hearth drill judge --stall 4s --boots "$boots"
