"""False alarms and misses of receipts: faults that are planted in exported files, and the draws they are tried on."""
