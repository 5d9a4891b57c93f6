#!/bin/bash
# Somebody who knows the cluster's name and addresses, but not its key, orders the guest to be stopped. Nobody answers him, and nothing changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down; rm -f "$key"' EXIT
export HEARTH_CLUSTER=three.toml
key=$(mktemp)
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$key"

hearth lab up three.toml --smp 1 --memory 512
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

owner=$(hearth drill owner web)
if said=$(hearth guest stop web --key "$key" 2>&1); then
    echo "a stranger was obeyed"
    exit 1
fi
# He was kept out, and did not fail otherwise.
grep -F 'nobody of cluster three answers' <<<"$said"
hearth drill until web --members 3 --running --led --owner "$owner"
hearth drill judge --stall 1s --boots 1
