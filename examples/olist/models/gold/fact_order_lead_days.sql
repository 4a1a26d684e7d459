/*
description: >
  When each order reached each of its stages, when it should have, and the
  calendar days between. The time of day does not count, a positive delay is
  late, and days are null where one of their ends is not known.
materialized: incremental
unique_key: [order_id]
partition_by: [month(purchase)]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null, unique]}
  - {name: purchase, type: timestamp, description: "When it was bought, UTC."}
  - {name: approve, type: timestamp, description: "When its payment was approved, UTC."}
  - {name: shipping_limit, type: timestamp, description: "Until when its last item must be with the carrier, UTC."}
  - {name: delivered_carrier, type: timestamp, description: "When the carrier got it, UTC."}
  - {name: estimated_delivery, type: timestamp, description: "Delivery date promised to the customer, UTC."}
  - {name: delivered_customer, type: timestamp, description: "When the customer got it, UTC."}
  - {name: canceled, type: timestamp, description: "When it was closed as canceled, UTC."}
  - {name: unavailable, type: timestamp, description: "When it was closed as unavailable, UTC."}
  - {name: purchase_to_approval_days, type: int, description: "Days from purchase to approval."}
  - {name: approval_to_carrier_days, type: int, description: "Days from approval to the carrier; negative where the carrier had it first."}
  - {name: carrier_to_customer_days, type: int, description: "Days from the carrier to the customer."}
  - {name: carrier_delivery_delay_days, type: int, description: "Days by which the carrier got it after the shipping limit; negative: before."}
  - {name: customer_delivery_delay_days, type: int, description: "Days by which the customer got it after the estimate; positive: late, negative: early."}
*/
WITH times AS (
  SELECT e.order_id,
    max(CASE WHEN e.data_type = 'purchase' THEN e.timestamp END) AS purchase,
    max(CASE WHEN e.data_type = 'approve' THEN e.timestamp END) AS approve,
    max(CASE WHEN e.data_type = 'shipping_limit' THEN e.timestamp END) AS shipping_limit,
    max(CASE WHEN e.data_type = 'delivered_carrier' THEN e.timestamp END) AS delivered_carrier,
    max(CASE WHEN e.data_type = 'estimated_delivery' THEN e.timestamp END) AS estimated_delivery,
    max(CASE WHEN e.data_type = 'delivered_customer' THEN e.timestamp END) AS delivered_customer,
    max(CASE WHEN e.data_type = 'canceled' THEN e.timestamp END) AS canceled,
    max(CASE WHEN e.data_type = 'unavailable' THEN e.timestamp END) AS unavailable
  FROM silver.order_event e
  GROUP BY e.order_id
)
SELECT t.order_id, t.purchase, t.approve, t.shipping_limit, t.delivered_carrier, t.estimated_delivery, t.delivered_customer, t.canceled, t.unavailable,
  datediff(cast(t.approve AS date), cast(t.purchase AS date)) AS purchase_to_approval_days,
  datediff(cast(t.delivered_carrier AS date), cast(t.approve AS date)) AS approval_to_carrier_days,
  datediff(cast(t.delivered_customer AS date), cast(t.delivered_carrier AS date)) AS carrier_to_customer_days,
  datediff(cast(t.delivered_carrier AS date), cast(t.shipping_limit AS date)) AS carrier_delivery_delay_days,
  datediff(cast(t.delivered_customer AS date), cast(t.estimated_delivery AS date)) AS customer_delivery_delay_days
FROM times t
