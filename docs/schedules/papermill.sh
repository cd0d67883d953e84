#!/bin/sh
# A report notebook every night with papermill, on the emulator, free of charge.
# It expects a checkout with its .venv in ~/vastbench. For cron:
# 17 3 * * * $HOME/vastbench/docs/schedules/papermill.sh
cd "$HOME/vastbench" && mkdir -p out/nightly || exit 3
PARAMETERS='-p repeats 3 -p store out/runs.sqlite'
# Live, spending money; the key is read from ~/.config/vastai/vast_api_key, mode 0600:
#PARAMETERS='-p repeats 3 -p store out/runs.sqlite -p live True -p budget_usd 0.5'

# It ends with 1 when no run passed or a cell failed; the notebook is kept and says why.
# After SIGTERM the engine destroys what is rented, then it ends with 130.
exec .venv/bin/papermill --engine vastbench --no-progress-bar $PARAMETERS \
    notebooks/01-integration-test.ipynb "out/nightly/$(date +%F).ipynb"
