#!/bin/bash
# Everything goes off and comes on again. All memory is gone, so a new cluster is founded when every voter says so, and the guest starts anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

for board in alpha beta gamma; do hearth lab kill "$board"; done
sleep 2
for board in alpha beta gamma; do hearth lab restart "$board"; done
hearth drill until web --members 3 --running --led --boots 2
sleep 3
hearth drill judge --boots 2
