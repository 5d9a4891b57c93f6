#!/bin/bash
# Each board in turn is drained, switched off, started from another image, and takes guests again. The guest moves out of the way while it runs, and never boots anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down; rm -f "$image"' EXIT
export HEARTH_CLUSTER=three.toml
image=$(mktemp --suffix .img)
cp ../../target/hearth.img "$image"

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

for board in alpha beta gamma; do
    hearth drain "$board" --wait --timeout 60
    hearth lab kill "$board"
    hearth drill until web --members 2 --running --not-owner "$board" --led
    hearth lab restart "$board" --image "$image"
    hearth drill until web --members 3 --running --not-owner "$board" --led
    hearth undrain "$board"
done
sleep 2
hearth drill judge --stall 2s --boots 1
