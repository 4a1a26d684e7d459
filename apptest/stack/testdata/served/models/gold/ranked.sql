/*
description: Kinds by amount, as of the last batch.
materialized: batch
unique_key: [place]
columns:
  - {name: place, type: bigint, description: "Place, from 1."}
  - {name: kind, type: string, description: "Kind."}
*/
SELECT cast(row_number() OVER (ORDER BY amount DESC NULLS LAST, kind DESC NULLS LAST) AS bigint) AS place, kind
FROM gold.by_kind
