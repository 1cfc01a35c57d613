"""Harbor Fleet: forecast the daily orders of every depot, seven days ahead, to staff right.

    python -m examples.harbor_fleet train --data orders.csv --out runs/harbor_fleet
    python -m examples.harbor_fleet predict runs/harbor_fleet --data orders_until_today.csv

Read the files in this order: `data` (the CSV), `features` (what the model sees), `model` (the
network), `training` (the loop), `evaluate` and `baselines` (is it any good?), `run` (what is
written), `main` (the commands).
"""
