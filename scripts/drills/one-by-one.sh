#!/bin/bash
# Boards are restarted one by one, each when the one before is back. The guest moves out of the way, and the cluster never loses its memory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

for board in alpha beta gamma; do
    hearth lab restart "$board"
    sleep 1
    hearth drill until web --members 3 --running --led
    sleep 1
done
sleep 2
hearth drill judge --stall 4s
