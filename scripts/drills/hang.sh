#!/bin/bash
# The guest's kernel panics and hangs, and its watchdog is refreshed no more. The cluster starts it anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
trap 'hearth lab down' EXIT

hearth lab up ../cluster.toml --smp 1 --memory 768
hearth drill watch web --service 10.7.0.11:7007
hearth drill until web --members 3 --running --led

# Its shell is on the first console of its board.
hearth lab type "$(hearth drill owner web)" '\x1d1\necho c >/proc/sysrq-trigger\n'
hearth drill until web --members 3 --running --led --boots 2
sleep 2
hearth drill judge --stall 40s --boots 2
